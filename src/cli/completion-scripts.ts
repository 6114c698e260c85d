/** What connects each shell with `aoe-server complete`. */

const BASH = `# Completion of aoe-server for bash
_aoe_server() {
  local line current=\${COMP_WORDS[COMP_CWORD]}
  COMPREPLY=()
  while IFS= read -r line; do
    case $line in
      :files) compopt -o filenames; mapfile -t -O \${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- "$current") ;;
      :directories) compopt -o filenames; mapfile -t -O \${#COMPREPLY[@]} COMPREPLY < <(compgen -d -- "$current") ;;
      *) COMPREPLY+=("\${line%%$'\\t'*}") ;;
    esac
  done < <(aoe-server complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _aoe_server aoe-server`;

const ZSH = `#compdef aoe-server
# Completion of aoe-server for zsh
_aoe_server() {
  local line
  local -a found
  while IFS= read -r line; do
    case $line in
      :files) _files ;;
      :directories) _files -/ ;;
      *) found+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}") ;;
    esac
  done < <(aoe-server complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  (( $#found )) && _describe aoe-server found
}
if [[ $funcstack[1] == _aoe-server ]]; then
  _aoe_server "$@"
else
  compdef _aoe_server aoe-server
fi`;

const FISH = `# Completion of aoe-server for fish
function __aoe_server_complete
    for line in (aoe-server complete -- (commandline -opc)[2..] "$(commandline -ct)" 2>/dev/null)
        switch $line
            case ':files'
                __fish_complete_path (commandline -ct)
            case ':directories'
                __fish_complete_directories (commandline -ct)
            case '*'
                echo $line
        end
    end
end
complete -c aoe-server -f -a '(__aoe_server_complete)'`;

export const COMPLETION_SCRIPTS = { bash: BASH, zsh: ZSH, fish: FISH } as const;
export type Shell = keyof typeof COMPLETION_SCRIPTS;
