package cli

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/auditfleet/auditfleet/internal/need"
)

// hostileText is all that a name can do to a terminal.
const hostileText = "\x1b]0;owned\a\x1b[2J\u009b2J\x9b\u202egnp\u202c\u200b\ufeff\r\b\nforged line"

// hostileLog is a log with hostile text wherever a program can put some: as it is,
// where the kernel would have written hex but another sender need not, and in hex.
func hostileLog(t *testing.T) string {
	t.Helper()
	raw := strings.NewReplacer("\n", "", " ", "").Replace(hostileText)
	hexed := strings.ToUpper(hex.EncodeToString([]byte(hostileText)))
	var b strings.Builder
	for i, text := range []string{raw, `"` + raw + `"`, hexed} {
		id := fmt.Sprintf("msg=audit(1700000000.%03d:%d):", i, i+1)
		node := "node=h" + raw
		fmt.Fprintf(&b, "%s type=SYSCALL %s arch=c000003e syscall=59 success=no exit=-13 a0=0 items=1 ppid=1 pid=%d auid=1000 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=%s ses=1 comm=%s exe=%s subj=%s key=%s\x1dARCH=x86_64 SYSCALL=execve AUID=\"%s\"\n",
			node, id, 100+i, raw, text, text, raw, text, raw)
		fmt.Fprintf(&b, "%s type=EXECVE %s argc=1 a0=%s\n%s type=CWD %s cwd=%s\n", node, id, text, node, id, text)
		fmt.Fprintf(&b, "%s type=PATH %s item=0 name=%s inode=1 nametype=NORMAL\n%s type=PROCTITLE %s proctitle=%s\n", node, id, text, node, id, hexed)
		user := fmt.Sprintf("msg=audit(1700000001.%03d:%d):", i, i+11)
		fmt.Fprintf(&b, "%s type=USER_LOGIN %s pid=7 uid=0 auid=1000 ses=1 subj=%s msg='op=login acct=%s exe=%s hostname=%s addr=%s terminal=%s res=failed'\n", node, user, raw, text, text, raw, raw, raw)
		fmt.Fprintf(&b, "%s type=ANOM_ABEND msg=audit(1700000002.%03d:%d): auid=1000 uid=0 gid=0 ses=1 pid=9 comm=%s exe=%s sig=11 res=1\n", node, i, i+21, text, text)
		fmt.Fprintf(&b, "%s type=%s msg=audit(1700000003.%03d:%d): %s\n", node, raw, i, i+31, raw)
		fmt.Fprintf(&b, "%s type=CONFIG_CHANGE msg=audit(1700000004.%03d:%d): auid=1000 ses=1 op=add_rule key=%s list=4 res=1\n", node, i, i+41, text)
	}
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var ourColours = regexp.MustCompile("\x1b\\[(0|1|2|31|32|34|36|1;33)m")

// obeyed returns what of text a terminal would obey or hide.
func obeyed(text string) string {
	text = ourColours.ReplaceAllString(text, "")
	if !utf8.ValidString(text) {
		return fmt.Sprintf("no UTF-8: %q", text)
	}
	for i, r := range text {
		if !unicode.IsGraphic(r) && r != '\n' && r != '\t' {
			return fmt.Sprintf("%q in %q", r, text[max(0, i-40):min(len(text), i+40)])
		}
	}
	if strings.Contains(text, "\nforged line") {
		return "a line of its own"
	}
	return ""
}

// onTerminal runs a command line on a terminal.
func onTerminal(t *testing.T, args ...string) string {
	t.Helper()
	tty, shown := need.Terminal(t, 200)
	in, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	Run(context.Background(), args, Stdio{In: in, Out: tty, Err: tty}, "v-test")
	return shown()
}

// Nothing of a record moves a terminal, in any format under our own name.
func TestHostileTextOnATerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("PAGER", "cat")
	log := hostileLog(t)
	search := []string{
		"", "-i", "--raw", "--format csv", "--format csv --extra-keys --extra-labels --extra-obj2 --extra-time", "--format text", "--format json", "-i --format json",
		"--tree", "--tree --format json", "--with-host", "--color always", "--color always -i", "--color never", "--around 5s", "--count", "--reverse", "--limit 2", "--debug",
		"--escape raw", "--escape raw -i", "--escape shell", "--escape raw --tree", "-i --escape shell_quote", "--color always --format csv --csv-safe",
	}
	for _, words := range search {
		got := onTerminal(t, append([]string{"forwarder", "search", "-if", log, "-ts", "01/01/2020"}, strings.Fields(words)...)...)
		if bad := obeyed(got); bad != "" || len(got) == 0 {
			t.Errorf("search %s: %s", words, bad)
		}
	}
	reports := []string{
		"", "-a", "-au", "-c", "-cr", "-e", "-f", "-h", "-i -k", "-k", "-l", "-m", "-n", "-p", "-r", "-s", "-t", "--tty", "-tm", "-u", "-v", "-x", "--comm", "--virt", "--integrity", "-y",
		"-f --summary", "-k --summary", "-h --summary", "-tm --summary", "-u --summary", "-x --summary", "--comm --summary", "-n --summary", "-au --summary", "-l --summary", "-e --summary", "-s --summary",
		"--by key", "--by node,comm,exe,file", "--by key --format csv", "--by key --format csv --csv-safe", "--by node,key --format json", "--by exe --escape raw", "-x --escape raw", "-k --escape shell",
	}
	for _, words := range reports {
		got := onTerminal(t, append([]string{"forwarder", "report", "-if", log}, strings.Fields(words)...)...)
		if bad := obeyed(got); bad != "" || len(got) == 0 || strings.HasPrefix(words, "-k") && !strings.Contains(got, "owned") {
			t.Errorf("report %s: %s", words, bad)
		}
	}
	for _, args := range [][]string{
		{"forwarder", "search", "-if", "none" + hostileText}, {"forwarder", "search", "-k" + hostileText}, {"forwarder", "report", hostileText}, {"forwarder", "no" + hostileText},
		{"forwarder", "ctl", "-R", "none" + hostileText}, {"auditctl", hostileText}, {"forwarder", "trace", "none" + hostileText}, {"forwarder", "run", "--config", "none" + hostileText},
	} {
		if got := onTerminal(t, args...); obeyed(strings.ReplaceAll(got, "\nforged", " forged")) != "" || len(got) == 0 {
			t.Errorf("%q: %s", args, obeyed(got))
		}
	}
}

// Asked for by name, the raw format is the records' own bytes; so it is where the
// output is no terminal, and under the stock name as the stock tool has it.
func TestRawTextWhereItIsAskedFor(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("PAGER", "cat")
	log := hostileLog(t)
	for _, args := range [][]string{
		{"forwarder", "search", "--format", "raw"}, {"ausearch", "--raw"}, {"ausearch", "--format", "raw"}, {"ausearch", "--escape", "raw"}, {"aureport", "-k"},
	} {
		if got := onTerminal(t, append(args, "-if", log)...); !strings.Contains(got, "\x1b]0;owned\a") {
			t.Errorf("%q: not the bytes of the record: %.300q", args, got)
		}
	}
	if got := onTerminal(t, "ausearch", "-if", log); strings.Contains(got, "\x1b]") || !strings.Contains(got, `\033]`) { // as the stock tool
		t.Errorf("ausearch: %.300q", got)
	}
}

// Under the stock names there is no pager: rules of sudo let people run ausearch.
func TestNoPagerUnderStockNames(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	t.Setenv("TERM", "xterm")
	t.Setenv("PAGER", "touch "+mark+"; cat")
	for _, name := range []string{"SUDO_UID", "SUDO_GID", "SUDO_USER", "SUDO_COMMAND", "DOAS_USER", "PKEXEC_UID"} {
		t.Setenv(name, "")
	}
	log := "../../../pkg/search/testdata/kernel-raw.log"
	paged := func(args ...string) bool {
		t.Helper()
		os.Remove(mark)
		if got := onTerminal(t, append(args, "-if", log)...); len(got) < 100 {
			t.Errorf("%q: %q", args, got)
		}
		_, err := os.Stat(mark)
		return err == nil
	}
	for _, args := range [][]string{{"ausearch"}, {"/usr/sbin/ausearch", "-i"}, {"aureport"}, {"./aureport", "-k"}} {
		if paged(args...) {
			t.Errorf("%q: a pager", args)
		}
	}
	if !paged("forwarder", "search") || !paged("forwarder", "report", "-k") {
		t.Error("no pager under our own name")
	}
	t.Setenv("SUDO_UID", "1000")
	if paged("forwarder", "search") || paged("forwarder", "report", "-k") {
		t.Error("a pager under sudo")
	}
}
