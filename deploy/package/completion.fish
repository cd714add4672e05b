# fish completion of muster(1)
set -l commands agent check check-config import cleanup status vips vip trace tasks members changes records keys resolve resolv top
complete -c muster -f -n "not __fish_seen_subcommand_from $commands" -a "$commands"
complete -c muster -n "__fish_seen_subcommand_from agent check" -l config -r -d "TOML file"
complete -c muster -F -n "__fish_seen_subcommand_from check-config import"
complete -c muster -f -n "__fish_seen_subcommand_from resolv" -a "install remove check"
complete -c muster -f -n "__fish_seen_subcommand_from keys" -a "list new add use drop"
complete -c muster -n "__fish_seen_subcommand_from keys" -l socket -r -d "control socket of the daemon"
complete -c muster -f -n "__fish_seen_subcommand_from keys" -l force -d "even if nodes are cut off by it"
complete -c muster -f -n "__fish_seen_subcommand_from keys" -l json -d "print JSON"
complete -c muster -f -n "__fish_seen_subcommand_from status vips vip trace tasks members changes records top" -l json -d "print JSON"
complete -c muster -f -n "__fish_seen_subcommand_from status vips vip trace tasks members changes records top resolve" -l address -x -d "HTTP address of the daemon"
complete -c muster -f -n "__fish_seen_subcommand_from resolve" -l server -x -d "DNS address to ask"
