package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// asCollector returns an environment in which `collector` is this program.
func asCollector(t *testing.T) (env []string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "collector")); err != nil {
		t.Fatal(err)
	}
	return append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+dir, "TERM=dumb")
}

// offer is a command line, and what a shell must and must not offer for its last word.
type offer struct{ line, want, not string }

// one word is what these can become.
var single = []offer{
	{"collector sear", "search", "serve"},
	{"collector search --for", "--format", "--raw"},
	{"collector search --format js", "json", "csv"},
	{"collector search -m USER_LOGO", "USER_LOGOUT", "USER_LOGIN"},
	{"collector search --field succ", "success=", "syscall="},
	{"collector search --field success=y", "yes", "no"},
	{"collector report --sum", "--summary", "--success"},
	{"collector serve --flush incremental_", "incremental_async", "data"},
	{"ausearch -ts tod", "today", "yesterday"},
	{"aureport --by comm,ho", "host", "node"},
}

// ambiguous words are what these can become: a terminal shows what they have in common.
var ambiguous = []offer{
	{"collector se", "search", "hosts"},
	{"collector search -m USER_LO", "USER_LOGIN", "USER_AUTH"},
	{"collector report --su", "--summary", "--tty"},
}

func offered(t *testing.T, env []string, shell string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, shell, args...)
	cmd.WaitDelay = time.Second
	cmd.Env = env
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%s %q: %v", shell, args, err)
	}
	return string(out)
}

func check(t *testing.T, shell string, offers []offer, complete func(line string) string) {
	t.Helper()
	for _, c := range need.Some(offers, 3) {
		got := complete(c.line)
		words := strings.FieldsFunc(got, func(r rune) bool { return strings.ContainsRune(" \t\r\n,", r) })
		has := func(word string) bool {
			for _, w := range words {
				if w == word || strings.HasSuffix(w, "="+word) {
					return true
				}
			}
			return false
		}
		if !has(c.want) || has(c.not) {
			t.Errorf("%s, %q: %q, want %s and not %s", shell, c.line, got, c.want, c.not)
		}
	}
}

// completer returns what a line may become in a shell.
type completer func(line string) string

// realShell skips what real shells do under -short.
func realShell(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: a real shell, started for each line")
	}
}

func TestBash(t *testing.T) {
	realShell(t)
	t.Parallel()
	check(t, "bash", append(ambiguous, single...), bashCompleter(t))
}

func bashCompleter(t *testing.T) completer {
	t.Helper()
	bash := need.Tool(t, "bash")
	const lib = "/usr/share/bash-completion/bash_completion"
	if _, err := os.Stat(lib); err != nil {
		need.Missing(t, "bash-completion is not installed")
	}
	env := asCollector(t)
	// What readline does, as far as the function sees it. compopt speaks of a completion
	// under way, which there is none of.
	script := `. ` + lib + `
for n in '' ausearch aureport; do . <(collector completion bash $n) || exit 1; done
compopt() { :; }
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 COMP_KEY=9
COMP_WORDS=() word=
for w in $(sed 's/=/ = /g' <<<"$1"); do COMP_WORDS+=("$w"); done
COMP_CWORD=$((${#COMP_WORDS[@]}-1))
__start_${COMP_WORDS[0]} ${COMP_WORDS[0]} "${COMP_WORDS[COMP_CWORD]}"
printf '%s\n' "${COMPREPLY[@]}"`
	return func(line string) string { return offered(t, env, bash, "--norc", "-c", script, "bash", line) }
}

func TestFish(t *testing.T) {
	realShell(t)
	t.Parallel()
	check(t, "fish", append(ambiguous, single...), fishCompleter(t))
}

func fishCompleter(t *testing.T) completer {
	t.Helper()
	fish := need.Tool(t, "fish")
	env := asCollector(t)
	script := "collector completion fish | source; for n in ausearch aureport; collector completion fish $n | source; end; complete -C $argv[1] | string replace -r '\\t.*' ''; or true"
	return func(line string) string { return offered(t, env, fish, "--no-config", "-c", script, line) }
}

func TestZsh(t *testing.T) {
	realShell(t)
	t.Parallel()
	check(t, "zsh", single, zshCompleter(t))
}

// zshCompleter gives a real zsh, on a terminal of its own, the line and a TAB.
func zshCompleter(t *testing.T) completer {
	t.Helper()
	zsh := need.Tool(t, "zsh")
	need.Terminals(t)
	env := asCollector(t)
	dir := t.TempDir()
	for name, args := range map[string][]string{"_collector": nil, "_ausearch": {"ausearch"}, "_aureport": {"aureport"}} {
		text := offered(t, env, "collector", append([]string{"completion", "zsh"}, args...)...)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// What the line has become is written to a file: on the terminal it is redrawn.
	script := `zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "show() { print -r -- \$BUFFER >$3.new; mv $3.new $3 }; zle -N show; bindkey '^G' show"
zpty -w z "fpath=($2 \$fpath); autoload -Uz compinit; compinit -u -D; PS1=rea'dy>'"
zpty -r z got '*ready>*'
zpty -n -w z "$1"$'\t\a'
while [[ ! -e $3 ]]; do zpty -r -t z got || sleep 0.02; done
cat $3`
	n := 0
	return func(line string) string {
		n++
		became := offered(t, env, zsh, "-f", "-c", script, "zsh", line, dir, filepath.Join(dir, fmt.Sprint("line", n)))
		words := strings.Fields(became)
		if len(words) == 0 {
			return ""
		}
		return words[len(words)-1]
	}
}
