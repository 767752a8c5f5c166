package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// TestOfferable leaves out what a shell does not take as it stands.
func TestOfferable(t *testing.T) {
	for v, want := range map[string]bool{
		"shadow-access": true, "/usr/bin/x": true, "a.b_c+d@e:f": true, "зонд": true, "漢字": true, "1000": true, "sh$(id)": false, "sh`id`": false, "a b": false,
		"a'b": false, `a"b`: false, `a\\b`: false, "a;b": false, "a|b": false, "a>b": false, "a*": false, "~root": false, "a{b,c}": false, "!x": false, "#x": false,
		"a\nb": false, "a\x1bb": false, "a\u202eb": false, "a\xffb": false, "-x": false, "=x": false, "": false, "a%b": false, strings.Repeat("x", 256): false,
	} {
		if got := offerable(v, ""); got != want {
			t.Errorf("%q: %v", v, got)
		}
	}
	if offerable("web1", "db") {
		t.Error("what was typed is not how it begins")
	}
}

// aFleet runs a collector that has events with such values, and returns its store's folder.
func aFleet(t *testing.T, values map[string]string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "af") // sockets have short paths
	if err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(dir, "st")
	ctx, stop := context.WithCancel(context.Background())
	var log need.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- Run(ctx, "v-test", []string{"collector", "serve", "--store", store, "--listen", "127.0.0.1:0", "--http", "", "--node", "hub"}, Stdio{nil, &log, &log})
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		os.RemoveAll(dir)
	})
	addr := regexp.MustCompile(`listen=(\S+)`)
	need.Wait(t, "a collector", func() bool { return addr.MatchString(log.String()) })
	var lines []string
	serial := 0
	for key, exe := range values {
		serial++
		lines = append(lines, fmt.Sprintf("node=web1 type=SYSCALL msg=audit(1795934331.100:%d): arch=c000003e syscall=59 success=yes exit=0 ppid=1 pid=2 auid=54321 uid=0 gid=0 euid=0 "+
			"suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=3 comm=\"x\" exe=%X key=%X\x1dAUID=\"alicia\"", serial, exe, key),
			fmt.Sprintf("node=web1 type=PROCTITLE msg=audit(1795934331.100:%d): proctitle=\"x\"", serial))
	}
	sendLog(t, addr.FindStringSubmatch(log.String())[1], lines)
	return store
}

// TestValuesFromStore offers what the events of a running collector have, in each shell that
// is here; a key that would run a program where a shell expands it runs none.
func TestValuesFromStore(t *testing.T) {
	realShell(t)
	t.Parallel()
	ran := filepath.Join(t.TempDir(), "ran")
	store := aFleet(t, map[string]string{
		"shadow-access": "/opt/vault/bin/vaultd", "sh$(touch " + ran + ")": "/opt/$(touch " + ran + ")", "sh`touch " + ran + "`": "/opt/`touch " + ran + "`",
		"sh;touch " + ran: "/opt/;touch " + ran, "sh\x1b[2J": "/opt/\x1b", "sh'x": "/opt/'x", "shared key": "/opt/a b",
	})
	line := func(format string) string { return strings.ReplaceAll(format, "STORE", store) }
	var offers []offer
	for _, o := range []offer{
		{"collector search --store STORE -k sh", "shadow-access", "shared"}, {"ausearch --store STORE --key shad", "shadow-access", "sh"},
		{"collector search --store STORE -x /opt/va", "/opt/vault/bin/vaultd", "/opt/a"}, {"collector search --store STORE -ul alic", "alicia", "alice"},
		{"collector search --store STORE -ua 5432", "54321", "4294967295"}, {"collector search --store STORE -n we", "web1", "hub"},
		{"collector report --store STORE --node we", "web1", "hub"}, {"collector hosts --store STORE we", "web1", "hub"},
		{"collector hosts --store STORE --forget we", "web1", "hub"}, {"collector hold add --store STORE we", "web1", "hub"},
		{"collector evidence --store STORE -k shad", "shadow-access", "sh"}, {"collector evidence --store STORE --ou", "--out", "--output"},
		{"collector hold add --store STORE 20", time.Now().UTC().Format(time.DateOnly), "web1"},
	} {
		offers = append(offers, offer{line(o.line), o.want, o.not})
	}
	complete := func(args ...string) string {
		var out, errs bytes.Buffer
		Run(t.Context(), "v-test", append([]string{"collector", "__complete"}, args...), Stdio{nil, &out, &errs})
		return out.String()
	}
	need.Wait(t, "the events", func() bool {
		return strings.Contains(complete("search", "--store", store, "-k", "sh"), "shadow-access")
	})
	if got := complete("search", "--store", store, "-k", ""); got != "shadow-access\n:4\n" {
		t.Errorf("keys: %q", got)
	}
	for _, nobody := range []string{store + "-none", "/proc"} {
		if got := complete("search", "--store", nobody, "-k", ""); strings.Contains(got, "shadow") {
			t.Errorf("without a collector: %q", got)
		}
	}
	for shell, make := range map[string]func(*testing.T) completer{"bash": bashCompleter, "fish": fishCompleter, "zsh": zshCompleter} {
		t.Run(shell, func(t *testing.T) { check(t, shell, offers, make(t)) })
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a shell ran what a key said")
	}
}
