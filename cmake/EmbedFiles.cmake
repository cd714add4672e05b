# cmake -DOUT=x.cpp -DHEADER=x.hpp -DFILES=a;b -P EmbedFiles.cmake: text files as the table
# `kEmbedded` of {name, content}, declared in HEADER. A literal has at most 64 KiB by the standard.
set(text "// Made from the files named below; do not edit.\n#include \"${HEADER}\"\n\n${OPEN}\n")
set(rows "")
foreach(file ${FILES})
  file(READ ${file} content)
  string(LENGTH "${content}" size)
  if(size GREATER 60000)
    message(FATAL_ERROR "${file}: ${size} octets; a string literal holds fewer: split the file")
  endif()
  get_filename_component(name ${file} NAME)
  string(APPEND rows "    {\"${name}\", R\"~embedded~(${content})~embedded~\"},\n")
endforeach()
file(WRITE ${OUT} "${text}const std::vector<EmbeddedFile>& embedded_files() {\n  static const std::vector<EmbeddedFile> kFiles{\n${rows}  };\n  return kFiles;\n}\n${CLOSE}\n")
