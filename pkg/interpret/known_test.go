package interpret

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
)

// A difference is a place where the stock tool is plainly wrong, and we are not.
type difference struct {
	name        string
	record      string // an example: "TYPE body"
	stock, ours string // what either prints in its body, and the other does not
	// applies says whether a record that came out differently is a case of it.
	applies func(rec, ours, stock string) bool
}

var knownDifferences = []difference{
	{
		name:   "newer-names",
		record: syscallRecord(0xc000003e, 452, [4]string{"1", "2", "3", "4"}, "0", "(null)"),
		stock:  "syscall=unknown-syscall(452) ", ours: "syscall=fchmodat2 ",
		applies: func(_, ours, stock string) bool {
			return strings.Contains(stock, "syscall=unknown-syscall(") && replaced(ours, stock, "syscall=") ||
				strings.Contains(stock, "arch=unknown-elf-type(") && replaced(ours, stock, "arch=")
		},
	},
	{
		name:   "unknown-arch",
		record: syscallRecord(0xdeadbeef, 2, [4]string{"1", "2", "3", "4"}, "0", "(null)"),
		stock:  "syscall=open ", ours: "syscall=unknown-syscall(2) ",
		applies: func(_, ours, stock string) bool {
			return strings.Contains(ours, "arch=unknown-elf-type(") && strings.Contains(stock, "arch=unknown-elf-type(")
		},
	},
	{
		name:   "syscall-of-others",
		record: "USER_AUTH x=1 syscall=59 z=1",
		stock:  "syscall=read ", ours: "syscall=execve ",
		applies: func(_, ours, stock string) bool {
			return strings.Contains(stock, "syscall=read ") && replaced(ours, stock, "syscall=")
		},
	},
	{
		name:   "no-id",
		record: "DAEMON_CONFIG op=reconfigure auid=? pid=? subj=? res=failed",
		stock:  "auid=root ", ours: "auid=? ",
		applies: func(_, ours, stock string) bool {
			return noID.MatchString(ours) && noID.ReplaceAllString(ours, "id=root") == noID.ReplaceAllString(stock, "id=root")
		},
	},
	{
		name:   "sigpwr",
		record: `ANOM_ABEND auid=0 uid=0 gid=0 ses=1 pid=1 comm="x" sig=30`,
		stock:  "sig=IGPWR ", ours: "sig=SIGPWR ",
		applies: func(_, ours, stock string) bool { return strings.ReplaceAll(ours, "SIGPWR", "IGPWR") == stock },
	},
	{
		name:   "saddr-no-hex",
		record: "USER_AUTH x=1 saddr=(none) z=1",
		stock:  "saddr=unknown-family(28200) ", ours: "saddr=malformed-host((none)) ",
		applies: func(_, ours, stock string) bool {
			return strings.Contains(ours, "saddr=malformed-host(") && replaced(ours, stock, "saddr=")
		},
	},
	{
		name:   "saddr-short",
		record: "SOCKADDR saddr=08004142",
		stock:  "saddr={ saddr_fam=atmpvc int=", ours: "saddr={ saddr_fam=atmpvc int=0 } ",
		applies: func(_, ours, stock string) bool {
			return strings.Contains(ours, "saddr_fam=atmpvc int=") && replaced(ours, stock, "int=")
		},
	},
	{
		name:   "tail-saddr",
		record: "SOCKADDR saddr=02000035080808080000000000000000\x1dUID=\"a\" SADDR={ saddr_fam=inet laddr=9.9.9.9 lport=1 }",
		stock:  "saddr={ ", ours: "saddr={ saddr_fam=inet laddr=9.9.9.9 lport=1 } ",
		applies: func(rec, ours, stock string) bool {
			return strings.Contains(rec, " SADDR={") && stock == "saddr={ " && strings.HasPrefix(ours, "saddr={ ")
		},
	},
	{
		name:   "proctitle-nul",
		record: "PROCTITLE proctitle=004142434445",
		stock:  "proctitle=ABCDE 4445 ", ours: "proctitle= ABCDE ",
		applies: func(rec, _, _ string) bool { return strings.Contains(rec, "proctitle=00") },
	},
}

var noID = regexp.MustCompile(`id=\?[^ ]*`)

// explained returns the known difference that makes the two differ, "" for none.
func explained(rec, ours, stock string) string {
	ours, stock = strings.ReplaceAll(ours, `\`, ""), strings.ReplaceAll(stock, `\`, "")
	for _, d := range knownDifferences {
		if d.applies(rec, ours, stock) {
			return d.name
		}
	}
	masked := func(s string) string {
		s = strings.ReplaceAll(noID.ReplaceAllString(s, "id=root"), "SIGPWR", "IGPWR")
		return without(without(without(s, "syscall="), "saddr="), "arch=")
	}
	if masked(ours) == masked(stock) {
		return "several at once"
	}
	return ""
}

// replaced says whether the two differ in values of name only.
func replaced(ours, stock, name string) bool { return without(ours, name) == without(stock, name) }

// without returns s without the first word of name's values.
func without(s, name string) string {
	var b strings.Builder
	for {
		i := strings.Index(s, name)
		if i < 0 {
			return b.String() + s
		}
		b.WriteString(s[:i])
		s = s[i+len(name):]
		if i = strings.IndexByte(s, ' '); i < 0 {
			return b.String()
		}
		s = s[i:]
	}
}

// TestKnownDifferences shows each of them with the stock tool.
func TestKnownDifferences(t *testing.T) {
	in := New(Config{Names: NewSystem(nil)})
	recs := make([]string, len(knownDifferences))
	for i, d := range knownDifferences {
		recs[i] = d.record
	}
	stock := stockBodies(t, recs)
	for i, d := range knownDifferences {
		ours := ourBody(in, d.record)
		if !strings.Contains(stock[i], d.stock) || strings.Contains(stock[i], d.ours) {
			t.Errorf("%s: the stock tool prints %q, want %q in it", d.name, stock[i], d.stock)
		}
		if !strings.Contains(ours, d.ours) {
			t.Errorf("%s: we print %q, want %q in it", d.name, ours, d.ours)
		}
		if !d.applies(d.record, ours, stock[i]) {
			t.Errorf("%s does not explain its own example", d.name)
		}
	}
}

// TestDifferencesAreListed keeps DIFFERENCES.md whole.
func TestDifferencesAreListed(t *testing.T) {
	b, err := os.ReadFile("DIFFERENCES.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range knownDifferences {
		if !bytes.Contains(b, []byte("\n| "+d.name+" | ")) {
			t.Errorf("DIFFERENCES.md does not list %s", d.name)
		}
	}
	if rows := bytes.Count(b, []byte("\n| ")) - 1; rows != len(knownDifferences) {
		t.Errorf("DIFFERENCES.md has %d rows for %d known differences", rows, len(knownDifferences))
	}
}
