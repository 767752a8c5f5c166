package search

import (
	"regexp"
	"slices"
	"strings"
)

// difference is a place where stock ausearch 3.0.9 is plainly wrong, by its
// manual or by its own other answers, and we are not.
type difference struct {
	name string
	what string
	// An example: what ausearch is asked, of which records, and whether it finds
	// them. We do the opposite.
	args   []string
	record []string
	finds  bool
	// applies says whether an event that only one of us prints is a case of it;
	// nil when generated searches avoid it.
	applies func(args []string, text string) bool

	// Where both find it: what only one of us prints, and whether an event that the
	// two print otherwise is a case of it.
	stock, ours string
	same        func(args []string, stock, ours string) bool
}

// given returns the value of the last of the options that is in args.
func given(args []string, opts ...string) (string, bool) {
	for i := len(args) - 2; i >= 0; i-- {
		if slices.Contains(opts, args[i]) {
			return args[i+1], true
		}
	}
	return "", false
}

func hasType(text string, types ...string) bool {
	for _, t := range types {
		if strings.Contains(text, "type="+t) {
			return true
		}
	}
	return false
}

func stamped(typ, body string) string {
	return "type=" + typ + " msg=audit(1700000000.123:45): " + body
}

const exampleCall = `arch=c000003e syscall=257 success=no exit=-13 a0=1 a1=2 a2=0 a3=0 items=1 ppid=10 pid=901 auid=1000 uid=0 gid=0 ` +
	`euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=1 comm="cupsd" exe="/usr/sbin/cupsd" subj=a_t key="k"`

var knownDifferences = []difference{
	{
		name:   "separator-added",
		what:   "--raw appends 0x1d to records without an enriched tail when another of the event has one; we give back what was logged",
		args:   []string{"--raw"},
		record: []string{stamped("SYSCALL", exampleCall+"\x1dUID=\"root\""), stamped("PROCTITLE", "proctitle=61")},
		// The output differs, not whether it is found: compare takes it off.
	},
	{
		name:    "apparmor-hidden",
		what:    "an AVC record without tclass=, as AppArmor and Smack write, hides its event from every search",
		args:    []string{"-m", "AVC"},
		record:  []string{stamped("AVC", `apparmor="DENIED" operation="open" profile="cupsd" name="/etc/shadow" pid=901 comm="cupsd"`)},
		applies: func(_ []string, text string) bool { return hasType(text, "AVC ") && !strings.Contains(text, "tclass=") },
	},
	{
		name:   "daemon-by-name",
		what:   "-ui and -ua NAME never find a daemon's record, -ui NUMBER does",
		args:   []string{"-ui", "root"},
		record: []string{stamped("DAEMON_START", "op=start ver=3.0.9 auid=4294967295 pid=600 uid=0 ses=4294967295 res=success")},
		applies: func(args []string, text string) bool {
			v, ok := given(args, "-ui", "-ua")
			return ok && !isDigit(v) && hasType(text, "DAEMON_")
		},
	},
	{
		name:   "anomaly-uid",
		what:   "in SECCOMP, ANOM_ABEND and ANOM_PROMISCUOUS, -ui compares the auid, which comes first",
		args:   []string{"-ui", "1001"},
		record: []string{stamped("SECCOMP", `auid=1000 uid=1001 gid=0 ses=4 pid=3701 comm="c" exe="/c" sig=31 arch=c000003e syscall=5 compat=0 ip=0x7f code=0x0`)},
		applies: func(args []string, text string) bool {
			_, ok := given(args, "-ui", "-ua")
			return ok && hasType(text, "SECCOMP", "ANOM_ABEND", "ANOM_PROMISCUOUS")
		},
	},
	{
		name:   "integrity-tty-uid",
		what:   "in INTEGRITY_* and TTY, -ui takes every uid for 0",
		args:   []string{"-ui", "1000"},
		record: []string{stamped("TTY", `tty pid=3600 uid=1000 auid=1001 ses=12 major=136 minor=0 comm="bash" data=6C730D`)},
		applies: func(args []string, text string) bool {
			_, ok := given(args, "-ui", "-ua")
			return ok && hasType(text, "TTY", "INTEGRITY_")
		},
	},
	{
		name:   "integrity-ppid",
		what:   "in INTEGRITY_*, -p compares the ppid where there is one",
		args:   []string{"-p", "3901"},
		record: []string{stamped("INTEGRITY_RULE", `file="/usr/bin/ls" hash="sha256:aa" ppid=3900 pid=3901 auid=1000 uid=0`)},
		applies: func(args []string, text string) bool {
			_, ok := given(args, "-p")
			return ok && hasType(text, "INTEGRITY_")
		},
	},
	{
		name:   "largest-id",
		what:   "4294967295, the id that means unset, is no condition for any id but the login uid and the session",
		args:   []string{"-ui", "4294967295"},
		record: []string{stamped("SYSCALL", exampleCall)},
		finds:  true,
		applies: func(args []string, _ string) bool {
			for _, opt := range []string{"-ui", "-ua", "-ue", "-gi", "-ge", "-ga"} {
				if v, ok := given(args, opt); ok && v == "4294967295" {
					return true
				}
			}
			return false
		},
	},
	{
		name:   "unknown-is-zero",
		what:   "auid=? and pid=? of a daemon's record count as 0",
		args:   []string{"-ul", "0"},
		record: []string{stamped("DAEMON_CONFIG", "op=reconfigure state=no-change auid=? pid=? subj=? res=failed")},
		finds:  true,
		applies: func(args []string, text string) bool {
			_, ok := given(args, "-ul", "-ua", "-p")
			// In words, normalWords has made stock's reading of it the common one.
			return ok && (strings.Contains(text, "auid=? ") || strings.Contains(text, "auid=root pid=root "))
		},
	},
	{
		name: "terminal-at-end",
		what: "a USER_AVC record whose terminal= comes last, as dbus writes it, is left out of searches by terminal",
		args: []string{"-tm", "pts/7"},
		record: []string{stamped("USER_AVC", `pid=812 uid=81 auid=1000 ses=1 subj=s_t msg='avc:  denied  { send_msg } for scontext=a_t `+
			`tcontext=b_t tclass=dbus permissive=0  exe="/usr/bin/dbus-daemon" hostname=? addr=? terminal=pts/7'`)},
		applies: func(args []string, text string) bool {
			_, ok := given(args, "-tm")
			return ok && hasType(text, "USER_AVC") && strings.Contains(text, "terminal=?'")
		},
	},
	{
		name: "sauid-hides-uid",
		what: "with -x, -ui and -ua never find a message that has a sauid=, as dbus writes it",
		args: []string{"-x", "dbus", "-ui", "81"},
		record: []string{stamped("USER_AVC", `pid=812 uid=81 auid=1000 ses=1 subj=s_t msg='avc:  denied  { send_msg } for scontext=a_t `+
			`tcontext=b_t tclass=dbus permissive=0  exe="/usr/bin/dbus-daemon" sauid=81 hostname=? addr=? terminal=?'`)},
		applies: func(args []string, text string) bool {
			_, exe := given(args, "-x")
			_, uid := given(args, "-ui", "-ua")
			return exe && uid && strings.Contains(text, " sauid=")
		},
	},
	{
		name: "uuid-hides-context",
		what: "with -uu, the contexts of a VIRT_MACHINE_ID record, which stand before its uuid, are not seen",
		args: []string{"-uu", "6f2b", "-o", "d:e:f"},
		record: []string{stamped("VIRT_MACHINE_ID", `pid=2002 uid=0 auid=1000 ses=1 subj=s_t msg='virt=kvm vm="g1" vm-ctx=a:b:c img-ctx=d:e:f `+
			`uuid=6f2b6a1e-0000-4000-8000-000000000001 exe="/usr/sbin/libvirtd" hostname=? addr=? terminal=? res=success'`)},
		applies: func(args []string, text string) bool {
			_, uuid := given(args, "-uu", "--uuid")
			_, context := given(args, "-o", "-su", "-se")
			return uuid && context && hasType(text, "VIRT_MACHINE_ID")
		},
	},
	{
		name: "netfilter-hides",
		what: "a NETFILTER_CFG record that names no task hides its event from -p, -c, -su and -se, whatever the SYSCALL record says",
		args: []string{"-p", "901"},
		record: []string{
			stamped("NETFILTER_CFG", "table=filter family=2 entries=4"), stamped("SYSCALL", exampleCall),
		},
		applies: func(args []string, text string) bool {
			_, ok := given(args, "-p", "-c", "-su", "-se")
			return ok && hasType(text, "NETFILTER_CFG")
		},
	},
	{
		name:   "login-subject",
		what:   "in LOGIN, the field's name counts as part of the subject: only -w -su subj=… finds it whole, and -su u finds every one",
		args:   []string{"-w", "-su", "s_t"},
		record: []string{stamped("LOGIN", "pid=2002 uid=0 subj=s_t old-auid=4294967295 auid=1001 tty=(none) old-ses=4294967295 ses=8 res=1")},
		applies: func(args []string, text string) bool {
			v, ok := given(args, "-su", "-se")
			return ok && hasType(text, "LOGIN ") && (slices.Contains(args, "-w") || strings.Contains("subj=", v))
		},
	},
	{
		name:   "syscall-zero",
		what:   "-sc 0 (read on x86_64) finds every event that is no system call",
		args:   []string{"-sc", "0"},
		record: []string{stamped("DAEMON_START", "op=start ver=3.0.9 auid=4294967295 pid=600 uid=0 ses=4294967295 res=success")},
		finds:  true,
		applies: func(args []string, text string) bool {
			v, ok := given(args, "-sc")
			return ok && v == "0" && !hasType(text, "SYSCALL")
		},
	},
	{
		name: "context-hides-uid",
		what: "with -se, -ui and -ua compare the uid= of a USER_AVC record's program; without it that of whom the program asks for, which is the one to act",
		args: []string{"-se", "s0", "-ui", "0"},
		record: []string{stamped("USER_AVC", `pid=1 uid=0 auid=4294967295 ses=4294967295 subj=u:r:init_t:s0 msg='avc:  denied  { status } for auid=1000 uid=1001 gid=1000 `+
			`scontext=u:r:t:s0 tcontext=u:r:t:s0 tclass=service exe="/x" sauid=0 hostname=? addr=? terminal=?'`)},
		finds: true,
		applies: func(args []string, text string) bool {
			_, context := given(args, "-se", "--context")
			_, uid := given(args, "-ui", "--uid", "-ua", "--uid-all")
			return context && uid && hasType(text, "USER_AVC")
		},
	},
	{
		name:   "subject-hides-object",
		what:   "-su with -o ignores -o, and with -se either is enough: all options should form an 'and'",
		args:   []string{"-su", "a_t", "-o", "nowhere"},
		record: []string{stamped("SYSCALL", exampleCall)},
		finds:  true,
	},
	{
		name:   "name-hides-number",
		what:   "a uid option with a name makes those with a number count for nothing: all options should form an 'and'",
		args:   []string{"-ui", "root", "-ul", "4711"},
		record: []string{stamped("SYSCALL", exampleCall)},
		finds:  true,
	},
	{
		name:   "all-loosens-one",
		what:   "-ua with -ui, -ue or -ul (and -ga with -gi or -ge) finds events where any of them holds",
		args:   []string{"-ua", "1000", "-ui", "4711"},
		record: []string{stamped("SYSCALL", exampleCall)},
		finds:  true,
	},
	{
		name: "field-in-value",
		what: "a field's name inside of another's value is taken for the field: a program may call itself exe=/usr/bin/true",
		args: []string{"-x", "/real"},
		record: []string{stamped("SYSCALL", `arch=c000003e syscall=59 success=yes exit=0 a0=1 a1=2 a2=0 a3=0 items=1 ppid=10 pid=901 auid=1000 `+
			`uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=1 comm="exe=(x)" exe="/real" key="k"`)},
	},
	{
		name: "host-to-comma",
		what: "a host's name goes on to the next comma of the record, however far that is",
		args: []string{"-w", "-hn", "web01"},
		record: []string{stamped("USER_AUTH", `pid=2014 uid=0 auid=4294967295 ses=4294967295 msg='op=PAM:x acct="bob" exe="/usr/bin/sudo" `+
			`hostname=web01 addr=? terminal=a,b res=failed'`)},
	},
	{
		name:   "ipv6-peer",
		what:   "an IPv6 address in DAEMON_ACCEPT and DAEMON_CLOSE ends at its first colon",
		args:   []string{"-hn", "2001:db8::7"},
		record: []string{stamped("DAEMON_ACCEPT", "op=x addr=2001:db8::7 port=4000 res=success")},
	},
	{
		name: "newer-records",
		what: "URINGOP and DM_CTRL records, which are newer than it, are found by their type only",
		args: []string{"-k", "ring"},
		record: []string{stamped("URINGOP", `uring_op=18 success=yes exit=5 items=0 ppid=1 pid=2 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 `+
			`fsgid=0 subj=s_t key="ring"`)},
		applies: func(_ []string, text string) bool {
			return hasType(text, "URINGOP", "DM_CTRL", "UNKNOWN[1336]", "UNKNOWN[1338]")
		},
	},
	{
		name: "names-of-others",
		what: "-ui NAME reads the names in the enriched tail only where the event's first record is its SYSCALL or its only one; " +
			"else it asks this machine's accounts",
		args: []string{"-ui", "daemon"},
		record: []string{
			stamped("CONFIG_CHANGE", "auid=1000 ses=1 op=x key=\"k\" list=4 res=1\x1dAUID=\"unset\""),
			stamped("SYSCALL", strings.Replace(exampleCall, " uid=0 ", " uid=4711 ", 1)+"\x1dAUID=\"alice\" UID=\"daemon\""),
		},
		applies: func(args []string, text string) bool {
			return byName(args) && hasType(text, "SYSCALL ") && usersDiffer(args, text)
		},
	},
	{
		name:   "number-junk",
		what:   "a number ends where its digits do, and is cut to its size: -ui 0x3e9, 0junk and 4294967296 find root's events; 4.2.2 refuses them, too",
		args:   []string{"-ui", "0x3e9"},
		record: []string{stamped("SYSCALL", exampleCall)},
		finds:  true,
	},
	{
		name:   "node-list",
		what:   "-n takes one name, so that -n web1,web2 and -n 'web*' find nothing without a word",
		args:   []string{"-n", "web1,db*"},
		record: []string{"node=web1 " + stamped("SYSCALL", exampleCall)},
	},
	{
		name:   "type-pattern",
		what:   "-m takes names and numbers only",
		args:   []string{"-m", "SYS*"},
		record: []string{stamped("SYSCALL", exampleCall)},
	},
	{
		name: "first-in-words",
		what: "with -i, -ui NAME makes the record that is printed first take its names from the tail of the SYSCALL",
		args: []string{"-ue", "root", "-i"},
		record: []string{
			stamped("SYSCALL", exampleCall+"\x1dAUID=\"alice\" UID=\"bob\" EUID=\"root\""),
			stamped("ANOM_PROMISCUOUS", "dev=lo prom=256 old_prom=0 auid=1001 uid=0 gid=0 ses=4\x1dAUID=\"carol\" UID=\"root\""),
		},
		stock: "old_prom=no auid=alice uid=bob ", ours: "old_prom=no auid=carol uid=root ",
		same: func(args []string, stock, ours string) bool {
			s, afterS, _ := strings.Cut(stock, "\n")
			o, afterO, _ := strings.Cut(ours, "\n")
			return byName(args) && inWords(args) && afterS == afterO && ids.ReplaceAllString(s, "") == ids.ReplaceAllString(o, "")
		},
	},
	{
		name:   "newer-types",
		what:   "with -i, a type that is newer than it is printed as its number",
		args:   []string{"-i"},
		record: []string{stamped("UNKNOWN[1338]", "module=dm op=ctr ppid=1 pid=2 error_msg=x res=1")},
		stock:  "type=UNKNOWN[1338] ", ours: "type=DM_CTRL ",
		same: func(args []string, stock, ours string) bool {
			return inWords(args) && typeNames.ReplaceAllString(stock, "") == typeNames.ReplaceAllString(ours, "")
		},
	},
	{
		name:   "login-apart",
		what:   "a LOGIN record is an event of its own, apart from the SYSCALL record of the same serial",
		args:   []string{"-m", "LOGIN", "-k", "k"},
		record: []string{stamped("LOGIN", "pid=901 uid=0 subj=s_t old-auid=4294967295 auid=1000 tty=(none) old-ses=4294967295 ses=8 res=1"), stamped("SYSCALL", exampleCall)},
	},
	{
		name:   "decision-over-call",
		what:   "-sv takes the last record's word for the event's result, also where that is an AVC record's decision behind the SYSCALL, or the second of two decisions",
		args:   []string{"-sv", "no"},
		record: []string{stamped("SYSCALL", exampleCall), stamped("AVC", "avc:  granted  { read } for  pid=901 comm=\"cupsd\" scontext=a:b:c tcontext=a:b:c tclass=file")},
		applies: func(args []string, text string) bool {
			_, ok := given(args, "-sv", "--success")
			return ok && strings.Contains(text, "avc:  ") && strings.Count(text, "msg=audit(") > 1
		},
	},
	{
		name:   "syslog-prefix",
		what:   "a record behind syslog's or dmesg's prefix is none",
		args:   []string{"-m", "USER_LOGIN"},
		record: []string{"Nov 28 14:04:05 web1 audispd: " + stamped("USER_LOGIN", "pid=1 uid=0 auid=1000 ses=1 msg='op=login res=success'")},
	},
}

// typeNames are those of records.
var typeNames = regexp.MustCompile(`type=[A-Z0-9_\[\]]+`)

// ids are what -i prints of users and groups. A name may have a blank in it.
var ids = regexp.MustCompile(`\b[a-z_-]*[ug]id=[^=]*( |$)`)

// inWords says whether a command line asks for -i's format.
func inWords(args []string) bool {
	v, _ := given(args, "--format")
	return v == "interpret" || slices.Contains(args, "-i") || slices.Contains(args, "--interpret")
}

// usersDiffer says whether the records of an event have several values for what a
// search for a user looks at. In words, those of the first may be another's.
func usersDiffer(args []string, text string) bool {
	for opt, field := range map[string]string{"-ui": " uid=", "-ue": " euid=", "-ul": " auid=", "-ua": " uid= euid= auid="} {
		if _, ok := given(args, opt); !ok {
			continue
		}
		for name := range strings.FieldsSeq(field) {
			values := map[string]bool{}
			all := strings.Split(text, " "+name)[1:]
			for _, after := range all {
				value, _, _ := strings.Cut(after, " ")
				values[value] = true
			}
			if len(values) > 1 || inWords(args) && len(all) > 1 {
				return true
			}
		}
	}
	return false
}
