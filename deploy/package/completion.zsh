#compdef muster
# zsh completion of muster(1)
_muster() {
  local -a commands
  commands=(
    'agent:run the daemon of this node' 'check-config:read a configuration and say what is wrong'
    'check:say what this machine lacks' 'import:turn a Mesos-DNS configuration into muster.toml'
    'cleanup:remove everything that muster put into the kernel' 'status:how this node is'
    'vips:virtual addresses and their backends' 'vip:one VIP, why each backend is in or out'
    'trace:follow a connection and say what is wrong' 'tasks:what runs in the cluster'
    'members:the nodes of the cluster' 'changes:what happened last' 'records:DNS records'
    'keys:the keys that seal gossip' 'resolve:ask the daemon for a name' 'resolv:make the resolver ask muster' 'top:the busiest VIPs')
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  case $words[2] in
    agent | check) _arguments '*--config[TOML file]:file:_files' ;;
    check-config | import) _files ;;
    resolv) (( CURRENT == 3 )) && compadd install remove check ;;
    keys) (( CURRENT == 3 )) && compadd list new add use drop; _arguments '--socket[control socket]:file:_files' '--force' '--json' ;;
    resolve) _arguments '*--address[HTTP address]:address:' '*--server[DNS address]:address:' ;;
    top) _arguments '--json' '--interval[seconds]:seconds:' '--count[samples]:count:' '--rows[VIPs]:rows:' ;;
    *) _arguments '--json[print JSON]' '--address[HTTP address]:address:' ;;
  esac
}
_muster "$@"
