package interpret

import (
	"regexp"
	"strings"
)

// A difference is a place where the stock tool is plainly wrong, and we are not.
type difference struct {
	name   string
	record string // "TYPE body"
	stock  string // its body in ausearch -i
	ours   string
	// applies says whether a record that came out differently is a case of it.
	applies func(rec, ours, stock string) bool
}

var knownDifferences = []difference{
	{
		name:   "newer-names",
		record: syscallRecord(0xc000003e, 452, [4]string{"1", "2", "3", "4"}, "0", "(null)"),
		applies: func(_, ours, stock string) bool {
			return strings.Contains(stock, "syscall=unknown-syscall(") && replaced(ours, stock, "syscall=") ||
				strings.Contains(stock, "arch=unknown-elf-type(") && replaced(ours, stock, "arch=")
		},
	},
	{
		name:   "syscall-of-others",
		record: "USER_AUTH x=1 syscall=59 z=1",
		applies: func(_, ours, stock string) bool {
			return strings.Contains(stock, "syscall=read ") && replaced(ours, stock, "syscall=")
		},
	},
	{
		name:   "no-id",
		record: "DAEMON_CONFIG op=reconfigure auid=? pid=? subj=? res=failed",
		applies: func(_, ours, stock string) bool {
			return noID.MatchString(ours) && noID.ReplaceAllString(ours, "id=root") == noID.ReplaceAllString(stock, "id=root")
		},
	},
	{
		name:   "sigpwr",
		record: "ANOM_ABEND auid=0 uid=0 gid=0 ses=1 pid=1 comm=\"x\" sig=30",
		applies: func(_, ours, stock string) bool {
			return strings.ReplaceAll(ours, "SIGPWR", "IGPWR") == stock
		},
	},
	{
		name:   "saddr-no-hex",
		record: "USER_AUTH x=1 saddr=(none) z=1",
		applies: func(_, ours, stock string) bool {
			return strings.Contains(ours, "saddr=malformed-host(") && replaced(ours, stock, "saddr=")
		},
	},
	{
		name:   "atmpvc-short",
		record: "SOCKADDR saddr=08004142",
		applies: func(_, ours, stock string) bool {
			return strings.Contains(ours, "saddr_fam=atmpvc int=") && replaced(ours, stock, "int=")
		},
	},
	{
		name:   "tail-saddr",
		record: "SOCKADDR saddr=02000035080808080000000000000000\x1dUID=\"a\" SADDR={ saddr_fam=inet laddr=9.9.9.9 lport=1 }",
		applies: func(rec, ours, stock string) bool {
			return strings.Contains(rec, " SADDR={ ") && strings.Contains(stock, "saddr={ ") && strings.Contains(ours, "saddr={ saddr_fam=inet laddr=9.9.9.9")
		},
	},
	{
		name:    "proctitle-nul",
		record:  "PROCTITLE proctitle=00414243",
		applies: func(rec, _, _ string) bool { return strings.Contains(rec, "proctitle=00") },
	},
}

// replaced says whether the two differ in values of name only.
func replaced(ours, stock, name string) bool {
	cut := func(s string) string {
		var b strings.Builder
		for {
			i := strings.Index(s, name)
			if i < 0 {
				return b.String() + s
			}
			b.WriteString(s[:i])
			s = s[i+len(name):]
			if i = strings.IndexByte(s, ' '); i >= 0 {
				s = s[i:]
			}
		}
	}
	return cut(ours) == cut(stock)
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
	if noID.MatchString(ours) && strings.Contains(stock, "syscall=read ") &&
		replaced(noID.ReplaceAllString(ours, "id=root"), noID.ReplaceAllString(stock, "id=root"), "syscall=") {
		return "several"
	}
	return ""
}
