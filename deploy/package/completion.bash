# bash completion of muster(1)
_muster() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}
  local commands='agent check check-config import cleanup status vips vip trace tasks members changes records keys resolve resolv top'
  if [ "$COMP_CWORD" -eq 1 ]; then
    mapfile -t COMPREPLY < <(compgen -W "$commands --help --version" -- "$current")
    return
  fi
  case $previous in
    --config | check-config | import) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    --address | --server | --interval | --count | --rows) return ;;
  esac
  local options='--help'
  case $command in
    agent | check) options+=' --config' ;;
    resolv) [ "$COMP_CWORD" -gt 2 ] || options='install remove check' ;;
    keys) options+=' --socket --force --json'; [ "$COMP_CWORD" -gt 2 ] || options='list new add use drop' ;;
    resolve) options+=' --address --server' ;;
    top) options+=' --address --json --interval --count --rows' ;;
    status | vips | vip | trace | tasks | members | changes | records) options+=' --address --json' ;;
  esac
  if [[ $current != -* && $command == @(vip|trace) ]]; then
    local names
    names=$(muster top --count 1 --json 2>/dev/null | grep -oE '"vip":"[^"]+"' | cut -d'"' -f4)
    # A colon ends a word for bash: what stands before the last one is not replaced.
    mapfile -t COMPREPLY < <(compgen -W "$names" -- "$current")
    declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "$current"
    return
  fi
  mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
}
complete -F _muster muster
