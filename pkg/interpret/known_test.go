package interpret

import (
	"bytes"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/record"
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
			return strings.Contains(stock, "syscall=unknown-syscall(") && withoutArgs(without(ours, "syscall=")) == withoutArgs(without(stock, "syscall=")) ||
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
		applies: func(_, ours, stock string) bool { return strings.Replace(ours, "auid=? ", "auid=root ", 1) == stock },
	},
	{
		name:    "large-id",
		record:  "USER_AUTH x=1 uid=4294967294 z=1",
		stock:   "uid=unknown(-2) ",
		ours:    "uid=unknown(4294967294) ",
		applies: func(_, ours, stock string) bool { return unsignedIDs(stock) == ours },
	},
	{
		name:   "fanotify-words",
		record: "FANOTIFY resp=2 fan_type=1 fan_info=1A subj_trust=1 obj_trust=2",
		stock:  "fan_type=1 fan_info=1A subj_trust=1 obj_trust=2 ",
		ours:   "fan_type=rule_info fan_info=26 subj_trust=yes obj_trust=unknown ",
		applies: func(_, ours, stock string) bool {
			return newWords.ReplaceAllString(ours, "") == newWords.ReplaceAllString(stock, "")
		},
	},
	{
		name:   "uring-op",
		record: "URINGOP uring_op=18 success=yes exit=0 items=0 ppid=1 pid=2 uid=0",
		stock:  "uring_op=18 ",
		ours:   "uring_op=openat ",
		applies: func(_, ours, stock string) bool {
			return newWords.ReplaceAllString(ours, "") == newWords.ReplaceAllString(stock, "")
		},
	},
	{
		name:   "uring-list",
		record: `CONFIG_CHANGE op=add_rule key="k" list=7 res=1`,
		stock:  "list=unknown-list(7) ",
		ours:   "list=io_uring ",
		applies: func(_, ours, stock string) bool {
			return strings.Contains(ours, "list=io_uring ") && replaced(ours, stock, "list=")
		},
	},
	{
		name:   "seccomp-kill",
		record: `SECCOMP auid=0 uid=0 gid=0 ses=1 pid=1 comm="x" exe="/x" sig=31 arch=c000003e syscall=2 compat=0 ip=0x7f code=0x80000000 z=1`,
		stock:  "code=kill ",
		ours:   "code=kill-process ",
		applies: func(_, ours, stock string) bool { // stock overlooks the uppermost bit of any code
			return sameCodes.Replace(ours) == sameCodes.Replace(stock) || negativeCode.MatchString(ours) && replaced(ours, stock, "code=")
		},
	},
	{
		name:   "openat2",
		record: "OPENAT2 oflag=01101 mode=0644 resolve=0x8",
		stock:  "oflag=O_WRONLY|O_NOCTTY|O_DSYNC mode=000,644 ",
		ours:   "oflag=O_WRONLY|O_CREAT|O_TRUNC mode=0644 ",
		applies: func(_, ours, stock string) bool {
			return without(ours, "oflag=", "mode=") == without(stock, "oflag=", "mode=")
		},
	},
	{
		name:   "clone-flags",
		record: syscallRecord(0xc000003e, 56, [4]string{"1200011", "0", "7ffc", "7ffd"}, "0", "(null)"),
		stock:  "a0=0x1200011 ",
		ours:   "a0=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD ",
		applies: func(raw, ours, stock string) bool {
			isClone := strings.Contains(ours, "=clone ") || strings.Contains(raw, " syscall=56 ") || strings.Contains(raw, " syscall=120 ") // whatever a tail calls it
			return isClone && withoutArgs(ours) == withoutArgs(stock)
		},
	},
	{
		name:   "chown-ids",
		record: syscallRecord(0xc000003e, 94, [4]string{"7ffc", "0", "0", "7ffd"}, "0", "(null)"),
		stock:  "a1=0x0 a2=0x0 ",
		ours:   "a1=root a2=root ",
		applies: func(raw, ours, stock string) bool {
			return (chownCall.MatchString(ours) || chownNumber.MatchString(raw)) && withoutArgs(ours) == withoutArgs(stock)
		},
	},
	{
		name:   "newer-folders",
		record: syscallRecord(0xc000003e, 332, [4]string{"ffffff9c", "1", "2", "3"}, "0", "(null)"),
		stock:  "a0=0xffffff9c ",
		ours:   "a0=AT_FDCWD ",
		applies: func(_, ours, stock string) bool {
			return strings.Contains(ours, "=AT_FDCWD ") && withoutArgs(ours) == withoutArgs(stock)
		},
	},
	{
		name:   "unnamed-socket",
		record: "SOCKADDR saddr=0100",
		stock:  "saddr={ saddr_fam=local sockaddr len too short } ",
		ours:   "saddr={ saddr_fam=local unnamed socket } ",
		applies: func(_, ours, stock string) bool {
			return strings.ReplaceAll(ours, unnamed, "sockaddr len too short") == stock
		},
	},
	{
		name:    "tail-space",
		record:  syscallRecord(0xc000003e, 2, [4]string{"1", "2", "3", "4"}, "0", "(null)") + "\x1dUID=\"a\" GID=\"domain users\" FSGID=\"b\"",
		stock:   "gid=  ",
		ours:    "gid=domain users ",
		applies: func(rec, _, _ string) bool { return !plainTail(rec) },
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

var negative = regexp.MustCompile(`unknown(\\*\()-(\d+)`)

// unsignedIDs is what stock prints with its negative ids as we print them.
func unsignedIDs(stock string) string {
	return negative.ReplaceAllStringFunc(stock, func(s string) string {
		m := negative.FindStringSubmatch(s)
		n, _ := strconv.ParseUint(m[2], 10, 64)
		return "unknown" + m[1] + strconv.FormatUint(uint64(-uint32(n)), 10)
	})
}

// idsAsStock is a record in which each id that is none ("?", "n/a", 0x1f) is the number
// that stock takes it for.
func idsAsStock(rec string) string {
	typ, body, _ := strings.Cut(rec, " ")
	body, tail, enriched := strings.Cut(body, "\x1d")
	b := []byte(body)
	b = b[:len(b):len(b)]
	var r record.Record
	_ = r.Parse([]byte("type=" + typ + " msg=audit(1.0:1): "))
	var out []byte
	done := 0
	for s := (scanner{rest: b}); s.next(); {
		kind := KindOf(r.Type, s.name)
		if kind != UserID && kind != GroupID || s.isMsg {
			continue
		}
		if _, ok := record.ID(s.value); ok {
			continue
		}
		at := len(b) - cap(s.value)
		if n, ok := number(s.value, 10); ok {
			out = strconv.AppendUint(append(out, b[done:at]...), uint64(uint32(n)), 10)
			done = at + len(s.value)
			if len(s.value) > 0 && (s.value[0] == '"' || s.value[0] == '\'') && done < len(b) { // the byte behind a quote is lost
				out = append(out, ' ')
				done++
			}
		}
	}
	body = string(append(out, b[done:]...))
	if enriched {
		body += "\x1d" + tail
	}
	return typ + " " + body
}

// plainTail says whether a record's enriched tail is one whose values end at the next
// space for everybody.
func plainTail(rec string) bool {
	_, tail, _ := strings.Cut(rec, "\x1d")
	for word := range strings.SplitSeq(tail, " ") {
		name, value, ok := strings.Cut(word, "=")
		if tail != "" && (!ok || name == "SADDR" || name != strings.ToUpper(name) || strings.Count(value, `"`)%2 != 0 || strings.ContainsAny(value, "{}")) {
			return false
		}
	}
	return true
}

// explained returns the known difference that makes the two differ, "" for none.
func explained(rec, ours, stock string) string {
	ours, stock = strings.ReplaceAll(ours, `\`, ""), strings.ReplaceAll(stock, `\`, "")
	for _, d := range knownDifferences {
		if d.applies(rec, ours, stock) {
			return d.name
		}
	}
	masked := func(s string) string {
		s = strings.NewReplacer("SIGPWR", "IGPWR", unnamed, "sockaddr len too short").Replace(sameCodes.Replace(s))
		if strings.Contains(ours, "list=io_uring") {
			s = without(s, "list=")
		}
		if negativeCode.MatchString(ours) {
			s = without(s, "code=")
		}
		s = without(newWords.ReplaceAllString(s, ""), "syscall=", "saddr=", "arch=", "oflag=", "mode=", "resolve=")
		if strings.Contains(ours, "=clone ") || chownCall.MatchString(ours) || chownNumber.MatchString(rec) || strings.Contains(ours, "=AT_FDCWD ") || strings.Contains(stock, "=unknown-syscall(") {
			s = withoutArgs(s)
		}
		return s
	}
	if masked(ours) == masked(stock) {
		return "several at once"
	}
	return ""
}

// replaced says whether the two differ in values of name only.
func replaced(ours, stock, name string) bool { return without(ours, name) == without(stock, name) }

// withoutArgs returns s without the arguments of a system call.
func withoutArgs(s string) string { return without(s, " a0=", " a1=", " a2=", " a3=") }

const unnamed = "unnamed socket"

// chownCall is such a call, chownNumber its number on some machine, whatever a tail calls
// it.
var (
	chownCall   = regexp.MustCompile(`syscall=[lf]?chown(32|at)? `)
	chownNumber = regexp.MustCompile(` syscall=(16|5[45]|9[2-5]|18[12]|198|207|212|260|289|291|298|325) `)
)

var (
	sameCodes    = strings.NewReplacer("code=kill-process", "code=kill", "code=kill-thread", "code=kill")
	negativeCode = regexp.MustCompile(`code=unknown-seccomp-code\((-|[8-9a-fA-F][0-9a-fA-F]{7}|0x[8-9a-f])`)
)

// newWords are the fields that stock prints as they are.
var newWords = regexp.MustCompile(`(?:uring_op|subj_trust|obj_trust|fan_type|fan_info)=(?:'[^']*'|"[^"]*"|["'].*|[^ ,\n]*)[ ,]*\n?`)

// without returns s without the first word of each name's values.
func without(s string, names ...string) string {
	for _, name := range names {
		s = withoutOne(s, name)
	}
	return s
}

func withoutOne(s, name string) string {
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

// A tailDifference is one in the enriched tail alone.
type tailDifference struct {
	name    string
	message string // an example: "TYPE text" as a program sends it
	// differs says whether it can be the reason, in a record without its tail.
	differs func(raw, ours, stock string) bool
	// mask takes off a tail what it is about.
	mask func(tail string) string
}

var knownTails = []tailDifference{
	{ // compareTails tells these two by the tail of the record with ids as stock reads them
		name:    "no-id",
		message: "1107 zz=1 oauid=? uid=n/a res=1",
		differs: func(_, _, _ string) bool { return false },
	},
	{
		name:    "large-id",
		message: "1107 zz=1 oauid=4294967294 res=1",
		differs: func(_, _, _ string) bool { return false },
	},
	{
		name:    "newer-names",
		message: "1107 zz=5 zz=6 zz=7 zz=8 zz=9 zz=10 syscall=452 res=1",
		differs: func(_, _, stock string) bool { return strings.Contains(stock, "=unknown-") },
		mask:    withoutCall,
	},
	{
		name:    "tail-arch",
		message: "1107 arch=40000003 zz=6 zz=7 zz=8 zz=9 zz=10 syscall=11 res=1",
		differs: func(raw, _, _ string) bool {
			places := archPlaces(raw)
			return !strings.Contains(raw, "type=SYSCALL ") && len(places) > 0 && (len(places) > 1 || places[0] != 10)
		},
		mask: withoutCall,
	},
	{
		name:    "unnamed-socket",
		message: "1107 zz=1 saddr=0100 res=1",
		differs: func(_, ours, _ string) bool { return strings.Contains(ours, unnamed) },
		mask:    func(tail string) string { return strings.ReplaceAll(tail, unnamed, "sockaddr len too short") },
	},
	{
		name:    "control-in-saddr", // the stock daemon's own line may have ended there
		message: "1107 zz=1 saddr=01002F7261020362 res=1",
		differs: func(_, ours, stock string) bool {
			i := strings.IndexByte(ours, '\\')
			return i > 0 && strings.HasPrefix(stock, ours[:i])
		},
		mask: func(string) string { return "" },
	},
	{
		name:    "saddr-short",
		message: "1107 zz=1 saddr=0800 res=1",
		differs: func(raw, _, _ string) bool { return strings.Contains(raw, "saddr=08") },
		mask:    func(string) string { return "" },
	},
}

// wordsAsStock is idsAsStock for what a daemon enriches: each word by itself.
func wordsAsStock(raw string) string {
	var out strings.Builder
	for len(raw) > 0 {
		i := strings.IndexByte(raw, ' ') + 1
		if i == 0 {
			i = len(raw)
		}
		word := raw[:i]
		raw = raw[i:]
		if name, value, ok := nameValue([]byte(strings.TrimPrefix(strings.TrimSuffix(word, " "), msgQuote))); ok {
			kind := KindOf(0, name)
			_, isID := record.ID(value)
			if n, ok := number(value, 10); ok && !isID && (kind == UserID || kind == GroupID) {
				word = strings.Replace(word, string(name)+"="+string(value), string(name)+"="+strconv.FormatUint(uint64(uint32(n)), 10), 1)
			}
		}
		out.WriteString(word)
	}
	return out.String()
}

// archPlaces returns which of a record's fields are named arch, from 1.
func archPlaces(raw string) (places []int) {
	_, body, _ := strings.Cut(raw, "): ")
	nr := 0
	for word := range strings.SplitSeq(body, " ") {
		name, value, ok := strings.Cut(strings.TrimPrefix(word, "msg='"), "=")
		if !ok || value == "" {
			continue
		}
		if nr++; strings.TrimLeft(name, "(") == "arch" {
			places = append(places, nr)
		}
	}
	return places
}

// withoutCall is a tail without its architectures and system calls.
func withoutCall(tail string) string { return without(without(tail, "ARCH="), "SYSCALL=") }

// knownTail returns the known difference that makes two tails of raw differ, the
// last of those that do so together; "" for none.
func knownTail(raw, ours, stock string) string {
	for _, d := range knownTails {
		if !d.differs(raw, ours, stock) {
			continue
		}
		if ours, stock = d.mask(ours), d.mask(stock); ours == stock {
			return d.name
		}
	}
	return ""
}

// TestKnownDifferences shows each of them with the stock tool.
func TestKnownDifferences(t *testing.T) {
	in := New(Config{Names: nss.New(nss.Config{})})
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
	names := map[string]bool{}
	for _, d := range knownDifferences {
		names[d.name] = true
	}
	for _, d := range knownTails {
		names[d.name] = true
	}
	for name := range names {
		if !bytes.Contains(b, []byte("\n| "+name+" | ")) {
			t.Errorf("DIFFERENCES.md does not list %s", name)
		}
	}
	const tables = 2
	if rows := bytes.Count(b, []byte("\n| ")) - tables; rows != len(names) {
		t.Errorf("DIFFERENCES.md has %d rows for %d known differences", rows, len(names))
	}
}
