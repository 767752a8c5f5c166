package report

import (
	"bytes"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// difference is a place where stock aureport 3.0.9 is plainly wrong, by its manual
// or by its own other reports, and we are not.
type difference struct {
	name string
	what string
	// An example: what aureport is asked, of which records, and what only its
	// output has, or only ours.
	args        []string
	record      []string
	stock, ours string
	// applies says whether an event is a case of it in a report.
	applies func(o *Options, ev *event.Event) bool
	// normal makes the outputs of both alike where they differ in this.
	normal func(o *Options, out string) string
}

func stamped(typ, body string) string {
	return "type=" + typ + " msg=audit(1700000000.123:45): " + body
}

const exampleCall = `arch=c000003e syscall=257 success=no exit=-13 a0=1 a1=2 a2=0 a3=0 items=1 ppid=10 pid=901 auid=1000 uid=0 gid=0 ` +
	`euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=1 comm="cupsd" exe="/usr/sbin/cupsd" subj=a_t key="k"`

// wants is what the stock tool reads of records for a report.
func wants(o *Options) query.FieldSet { return reports[o.Kind].needs }

// anyRecord says whether fn holds for a record of the event; before is those
// before it.
func anyRecord(ev *event.Event, fn func(before []record.Record, r *record.Record) bool) bool {
	for i := range ev.Records {
		if fn(ev.Records[:i], &ev.Records[i]) {
			return true
		}
	}
	return false
}

func hasField(r *record.Record, name string) bool {
	_, ok := r.Get(name)
	return ok
}

var knownDifferences = []difference{
	{
		name: "apparmor-hidden",
		what: "an AVC record without tclass=, as AppArmor and Smack write, hides its event from every report",
		args: []string{"-a"},
		record: []string{stamped("AVC", `apparmor="DENIED" operation="open" profile="cupsd" name="/etc/shadow" pid=901 comm="cupsd" `+
			`requested_mask="r" denied_mask="r" fsuid=0 ouid=0`)},
		stock: nothing, ours: "cupsd cupsd 0 (null) r (null) denied 45",
		applies: func(_ *Options, ev *event.Event) bool {
			return anyRecord(ev, func(_ []record.Record, r *record.Record) bool { return r.Type == tables.AVC && !hasField(r, "tclass") })
		},
	},
	{
		name:   "netfilter-hides",
		what:   "a NETFILTER_CFG record that names no task, as old kernels write, hides its event",
		args:   []string{"-c"},
		record: []string{stamped("NETFILTER_CFG", "table=filter family=2 entries=4"), stamped("SYSCALL", exampleCall)},
		stock:  nothing, ours: "NETFILTER_CFG 1000 no 45",
		applies: func(_ *Options, ev *event.Event) bool {
			return anyRecord(ev, func(_ []record.Record, r *record.Record) bool {
				return query.ClassOf(r.Type) == query.ClassKernel && !hasField(r, "pid")
			})
		},
	},
	{
		name: "newer-records",
		what: "URINGOP and DM_CTRL records, which are newer than it, count by their type only",
		args: []string{"-k"},
		record: []string{stamped("URINGOP", `uring_op=18 success=yes exit=5 items=0 ppid=1 pid=2 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 `+
			`fsgid=0 subj=s_t key="ring"`)},
		stock: nothing, ours: "ring yes ? -2 45",
		applies: func(_ *Options, ev *event.Event) bool {
			return anyRecord(ev, func(_ []record.Record, r *record.Record) bool {
				return r.Type == tables.URingOp || r.Type == tables.DMCtrl
			})
		},
	},
	{
		name: "seccomp-call",
		what: "with -i, the call of a SECCOMP record in whose tail 3.0.9's own daemon has unknown-syscall(-1) is that",
		args: []string{"-p", "-i"},
		record: []string{stamped("SECCOMP", `auid=4294967295 uid=0 gid=0 ses=4294967295 pid=24109 comm="w" exe="/w" sig=31 arch=c000003e syscall=110 compat=0 `+
			`ip=0x57d4eb code=0x80000000`+"\x1dARCH=x86_64 SYSCALL=unknown-syscall(-1)")},
		stock: "unknown-syscall(-1)", ours: "/w getppid unset 45",
		applies: func(o *Options, ev *event.Event) bool {
			return o.Interpret && anyRecord(ev, func(_ []record.Record, r *record.Record) bool { return r.Type == tables.Seccomp })
		},
	},
	{
		name: "terminal-at-end",
		what: "a USER_AVC record whose terminal= comes last, as dbus and systemd write it, is left out of the reports that know terminals",
		args: []string{"-x"},
		record: []string{stamped("USER_AVC", `pid=812 uid=81 auid=1000 ses=1 subj=s_t msg='avc:  denied  { send_msg } for scontext=a_t `+
			`tcontext=b_t tclass=dbus permissive=0  exe="/usr/bin/dbus-daemon" hostname=? addr=? terminal=?'`)},
		stock: nothing, ours: "/usr/bin/dbus-daemon ? ? 1000 45",
		applies: func(o *Options, ev *event.Event) bool {
			return wants(o)&wantTerm != 0 && anyRecord(ev, func(_ []record.Record, r *record.Record) bool {
				i := bytes.LastIndex(r.Body, []byte("terminal="))
				return i >= 0 && bytes.IndexByte(r.Body[i:], ' ') < 0
			})
		},
	},
	{
		name:    "short-address",
		what:    "a socket without a name, whose address is two bytes, hides its event from the reports that know files or hosts",
		args:    []string{"-x"},
		record:  []string{stamped("SYSCALL", exampleCall), stamped("SOCKADDR", "saddr=0100")},
		stock:   nothing,
		ours:    "/usr/sbin/cupsd pts0 ? 1000 45",
		applies: shortAddress,
	},
	{
		name:   "incomplete-hides",
		what:   "a record that lacks a field which the report wants of such records, or ends in it, hides its event",
		args:   []string{"-x"},
		record: []string{stamped("SECCOMP", `auid=1000 uid=1001 gid=0 ses=4 pid=3701 comm="c" sig=31 arch=c000003e syscall=5`), stamped("SYSCALL", exampleCall)},
		stock:  nothing, ours: "/usr/sbin/cupsd pts0 ? 1000 45",
		applies: func(o *Options, ev *event.Event) bool {
			return anyRecord(ev, func(before []record.Record, r *record.Record) bool { return incomplete(o, before, r) })
		},
	},
	{
		name:   "unknown-is-zero",
		what:   "auid=? of a daemon's record, or auid=n/a, counts as root's",
		args:   []string{"-e"},
		record: []string{stamped("DAEMON_CONFIG", "op=reconfigure state=no-change auid=? pid=? subj=? res=failed")},
		stock:  "DAEMON_CONFIG 0 no", ours: "DAEMON_CONFIG -2 no",
		applies: func(_ *Options, ev *event.Event) bool {
			return anyRecord(ev, func(_ []record.Record, r *record.Record) bool {
				for _, name := range []string{"auid", "uid", "pid"} {
					f, ok := r.Get(name)
					if _, number := record.Decimal(f.Value); ok && !number {
						return true
					}
				}
				return false
			})
		},
	},
	{
		name:   "large-id",
		what:   "the id of a user from 2^31 on is negative, and 4294967294 is none",
		args:   []string{"-u"},
		record: []string{stamped("SYSCALL", strings.Replace(exampleCall, "auid=1000", "auid=3000000000", 1))},
		stock:  " -1294967296 pts0", ours: " 3000000000 pts0",
		applies: func(_ *Options, ev *event.Event) bool {
			f := facts{}
			f.read(ev, wantAUID|wantUID)
			return max(f.auid, f.uid) >= 1<<31 || anyRecord(ev, func(_ []record.Record, r *record.Record) bool {
				return bytes.Contains(r.Enriched, []byte(unknownTo+"-"))
			})
		},
	},
	{
		name:   "daemon-order",
		what:   "in a daemon's record, uid= and ses= are not found before pid=, where auditd writes them when it ends",
		args:   []string{"-u"},
		record: []string{stamped("DAEMON_END", "op=terminate auid=0 uid=0 ses=4294967295 pid=23639 res=success")},
		stock:  nothing, ours: "0 ? ? ? 45",
		applies: func(o *Options, ev *event.Event) bool {
			return o.Kind == User && anyRecord(ev, func(_ []record.Record, r *record.Record) bool {
				return query.ClassOf(r.Type) == query.ClassDaemon && bytes.Index(r.Body, []byte(" pid=")) > bytes.Index(r.Body, []byte(" uid="))
			})
		},
	},
	{
		name:   "integrity-ppid",
		what:   "in INTEGRITY_*, ppid= is taken for pid= where it comes first",
		args:   []string{"-p"},
		record: []string{stamped("INTEGRITY_RULE", `file="/usr/bin/ls" hash="sha256:aa" ppid=3900 pid=3901 auid=1000 uid=0`)},
		stock:  " 3900 ? 0", ours: " 3901 ? 0",
		applies: func(_ *Options, ev *event.Event) bool {
			return anyRecord(ev, func(_ []record.Record, r *record.Record) bool {
				return query.ClassOf(r.Type) == query.ClassIntegrity && bytes.Contains(r.Body, []byte("ppid="))
			})
		},
	},
	{
		name: "unknown-machine",
		what: "with -i, the summary of system calls counts those of an unknown architecture under whatever was in memory",
		args: []string{"-s", "--summary", "-i"},
		record: []string{
			stamped("SYSCALL", strings.Replace(exampleCall, "c000003e", "deadbeef", 1)),
			strings.Replace(stamped("SYSCALL", strings.Replace(exampleCall, "c000003e", "deadbeef", 1)), ":45)", ":46)", 1),
		},
		ours: "\n2  ?\n",
		applies: func(o *Options, ev *event.Event) bool {
			f := facts{}
			f.read(ev, wantArch)
			_, known := tables.ArchName(f.arch)
			return o.Kind == Syscall && o.Summary && o.Interpret && f.hasCall && !known
		},
	},
	{
		name:   "syscall-zero",
		what:   "system call 0 (read on x86_64) is taken for none",
		args:   []string{"-s"},
		record: []string{stamped("SYSCALL", strings.Replace(exampleCall, "syscall=257", "syscall=0", 1))},
		stock:  nothing, ours: "0 901 cupsd 1000 45",
		applies: func(o *Options, ev *event.Event) bool {
			return (o.Kind == Syscall || o.Kind == Overview) && anyRecord(ev, func(_ []record.Record, r *record.Record) bool {
				return bytes.Contains(r.Body, []byte("syscall=0 "))
			})
		},
	},
	{
		name:   "new-names",
		what:   "types and, with -i, system calls that are younger than 3.0.9 have no name: (null), or a number",
		args:   []string{"-e"},
		record: []string{stamped("UNKNOWN[1338]", "module=x"), stamped("SYSCALL", exampleCall)},
		stock:  "(null) 1000", ours: "DM_CTRL 1000",
		applies: func(o *Options, ev *event.Event) bool {
			if r := &ev.Records[0]; r.Type == 0 || bytes.Contains(r.Raw, []byte("type=UNKNOWN[")) {
				return true
			}
			return o.Interpret && anyRecord(ev, func(_ []record.Record, r *record.Record) bool {
				f, ok := r.Get("syscall")
				n, _ := record.Decimal(f.Value)
				return ok && n > 450
			})
		},
	},
	{
		name:   "login-apart",
		what:   "a LOGIN record is an event of its own, apart from the SYSCALL record of the same serial",
		args:   []string{"--summary"},
		record: []string{stamped("LOGIN", "pid=901 uid=0 old-auid=4294967295 auid=1000 tty=(none) old-ses=4294967295 ses=8 res=1"), stamped("SYSCALL", exampleCall)},
		stock:  "Number of events: 2", ours: "Number of events: 1",
	},
	{
		name: "decision-over-call",
		what: "the last record says an event's result, also where that is an AVC record's decision behind the SYSCALL, or the second of two decisions",
		args: []string{"-e"},
		record: []string{stamped("SYSCALL", exampleCall),
			stamped("AVC", `avc:  granted  { read } for  pid=901 comm="cupsd" path="/x" scontext=a:b:c tcontext=a:b:c tclass=file`)},
		stock: "SYSCALL 1000 yes", ours: "SYSCALL 1000 no",
		applies: func(_ *Options, ev *event.Event) bool { return hasDecision(ev) && resultsDiffer(ev) },
	},
	{
		name: "account-like-number",
		what: "in summaries of logins and authentications, an account whose name begins with a digit becomes the number it begins with",
		args: []string{"-au", "--summary"},
		record: []string{stamped("USER_AUTH", `pid=1 uid=0 auid=1000 ses=1 msg='op=PAM:x acct="4real" exe="/bin/su" hostname=? addr=? `+
			`terminal=? res=failed'`)},
		stock: "1  4\n", ours: "1  4real\n",
		applies: func(o *Options, ev *event.Event) bool {
			return o.Summary && (o.Kind == Auth || o.Kind == Login) && anyRecord(ev, func(_ []record.Record, r *record.Record) bool {
				f := facts{ev: ev, firstRecord: r}
				f.read(ev, 0)
				return f.acct.OK && len(f.acct.B) > 0 && (f.acct.B[0] == '-' || f.acct.B[0]-'0' <= 9)
			})
		},
	},
	{
		name: "user-by-login",
		what: "with -i, an authentication that names no account shows the name that the enriched tail has for the login uid",
		args: []string{"-au", "-i"},
		record: []string{stamped("USER_AUTH", `pid=1 uid=33 auid=1000 ses=1 msg='op=PAM:x exe="/bin/su" hostname=? addr=? `+
			"terminal=? res=failed'\x1dUID=\"www\" AUID=\"alice\"")},
		stock: " alice ? ?", ours: " www ? ?",
		applies: func(o *Options, ev *event.Event) bool {
			f := facts{}
			f.read(ev, 0)
			return o.Kind == Auth && !o.Summary && o.Interpret && !f.acct.OK
		},
	},
	{
		name:   "ipv6-peer",
		what:   "an IPv6 address in DAEMON_ACCEPT and DAEMON_CLOSE ends at its first colon",
		args:   []string{"-h"},
		record: []string{stamped("DAEMON_ACCEPT", "op=x addr=2001:db8::7 port=4000 res=success")},
		stock:  " 2001 0", ours: " 2001:db8::7 0",
		applies: func(_ *Options, ev *event.Event) bool {
			return anyRecord(ev, func(_ []record.Record, r *record.Record) bool {
				f, ok := r.Get("addr")
				return query.ClassOf(r.Type) == query.ClassPeer && ok && bytes.Count(f.Value, []byte(":")) > 1
			})
		},
	},
	{
		name: "host-to-comma",
		what: "a host's name goes on to the next comma of the record, however far that is",
		args: []string{"-h"},
		record: []string{stamped("USER_AUTH", `pid=2014 uid=0 auid=4294967295 ses=4294967295 msg='op=PAM:x acct="bob" exe="/usr/bin/sudo" `+
			`hostname=web01 addr=? terminal=a,b res=failed'`)},
		stock: "web01 addr=? terminal=a 0", ours: "web01 0",
		applies: func(o *Options, ev *event.Event) bool {
			return wants(o)&wantHost != 0 && anyRecord(ev, func(_ []record.Record, r *record.Record) bool {
				i := bytes.Index(r.Body, []byte("hostname="))
				return i >= 0 && bytes.IndexByte(r.Body[i:], ',') >= 0
			})
		},
	},
	{
		name: "range-from-1970",
		what: "with --start and --end, the range of time in the logs begins at the first record outside, or in 1970",
		args: []string{"-ts", "11/14/23", "22:00:00"}, record: []string{stamped("SYSCALL", exampleCall)},
		stock: "in logs: 01/01/70 00:00:00.000 - ", ours: "in logs: 11/14/23 22:13:20.123 - ",
		normal: func(o *Options, out string) string {
			if o.Kind != Overview || o.StartMs == 0 && o.EndMs == 0 && !strings.Contains(out, "01/01/70") {
				return out
			}
			lines := strings.SplitAfter(out, "\n")
			for i, line := range lines {
				if strings.HasPrefix(line, "Range of time") || strings.HasPrefix(line, "Selected time") {
					lines[i] = "(time)\n"
				}
			}
			return strings.Join(lines, "")
		},
	},
	{
		name: "tty-without-data",
		what: "a TTY record without data= ends its line in the middle, and without a newline",
		args: []string{"--tty"}, record: []string{stamped("TTY", `tty pid=1 uid=0 auid=0 ses=1 major=4 minor=1 comm="sh"`)},
		ours: "22:13:20 45 0 ? 1 sh ?\n",
		applies: func(o *Options, ev *event.Event) bool {
			return o.Kind == TTY && !bytes.Contains(ev.Records[0].Body, []byte("data="))
		},
	},
}

func shortAddress(o *Options, ev *event.Event) bool {
	return wants(o)&(wantHost|wantFile) != 0 && anyRecord(ev, func(_ []record.Record, r *record.Record) bool {
		f, ok := r.Get("saddr")
		if r.Type != tables.SockAddr || !ok {
			return false
		}
		b := f.AppendDecoded(nil)
		return len(b) < 4 || b[0]|b[1] == 2 && len(b) < 16 || b[0]|b[1] == 10 && len(b) < 28 // IPv4, IPv6
	})
}

// incomplete says whether the stock tool stops reading an event at a record.
func incomplete(o *Options, before []record.Record, r *record.Record) bool {
	n := wants(o)
	lacks := func(want query.FieldSet, names ...string) bool {
		if n&want != want {
			return false
		}
		for _, name := range names {
			if hasField(r, name) {
				return false
			}
		}
		return true
	}
	had := func(name string) bool {
		for i := range before {
			if hasField(&before[i], name) {
				return true
			}
		}
		return false
	}
	switch query.ClassOf(r.Type) {
	case query.ClassSyscall, query.ClassTask:
		return lacks(0, "pid") || lacks(wantAUID, "auid", "loginuid") || lacks(wantUID, "uid") || lacks(wantComm, "comm") || lacks(wantExe, "exe") ||
			lastIs(r, "pid", "auid", "uid", "tty", "ses", "subj")
	case query.ClassUser, query.ClassUserAVC:
		return lacks(0, "pid") || lacks(wantAUID, "auid", "loginuid") || lacks(wantUID, "uid") || lastIs(r, "pid", "auid", "uid", "ses", "subj")
	case query.ClassAVC:
		return lacks(wantComm, "comm") && !had("comm") || lastIs(r, "pid", "scontext", "tcontext")
	case query.ClassAnom:
		return lacks(wantAUID, "auid") || r.Type == tables.Seccomp && lacks(wantExe, "exe") || lastIs(r, "uid", "gid", "subj", "pid")
	case query.ClassMAC:
		return lacks(wantAUID, "auid")
	case query.ClassDaemon:
		return lacks(wantAUID, "auid") || lacks(0, "pid")
	case query.ClassTTY:
		return lacks(wantAUID, "auid")
	case query.ClassIntegrity:
		return lastIs(r, "pid", "uid", "auid", "ses", "subj")
	case query.ClassKernel:
		return lacks(wantComm, "comm") && !had("comm") || lacks(wantAVC, "subj") && !had("subj")
	case query.ClassLogin:
		return lastIs(r, "pid", "uid", "subj")
	}
	return false
}

// lastIs says whether the record's last own field is one of those.
func lastIs(r *record.Record, names ...string) bool {
	last := r.Body[bytes.LastIndexByte(r.Body, ' ')+1:]
	for _, n := range names {
		if bytes.HasPrefix(last, []byte(n+"=")) {
			return true
		}
	}
	return false
}
