package query

import (
	"slices"
	"strings"
	"testing"
)

// What a search finds in a record of each class.
func TestExtractClasses(t *testing.T) {
	for _, c := range []struct{ typ, body, want string }{
		{"FEATURE_CHANGE", "pid=7 uid=1 syscall=5 res=1", "pid=7 uid=1 success=yes"},
		{"URINGOP", `uring_op=18 success=no exit=-13 items=0 ppid=6 pid=7 uid=1 gid=2 euid=3 suid=0 fsuid=0 egid=4 sgid=0 fsgid=0 subj=s key=6B31016B32`,
			"success=no exit=-13 ppid=6 pid=7 uid=1 gid=2 euid=3 egid=4 subject=s key=k1 key=k2"},
		{"DM_CTRL", `module=crypt op=ctr ppid=6 pid=7 auid=5 uid=1 gid=2 euid=3 suid=0 fsuid=0 egid=4 sgid=0 fsgid=0 tty=pts0 ses=9 comm="dmsetup" ` +
			`exe="/sbin/dmsetup" subj=s dev=254:3 error_msg='success' res=1`,
			"ppid=6 pid=7 auid=5 uid=1 gid=2 euid=3 egid=4 terminal=pts0 ses=9 comm=dmsetup exe=/sbin/dmsetup subject=s success=yes"},
		{"AVC_PATH", `path="/p" obj=o`, "file=/p"},
		{"USER_LOGIN", `pid=7 uid=0 auid=5 msg='id=3 acct="bob" exe="/e" hostname=? addr=192.0.2.9 terminal=ssh res=failed'`,
			"acct=bob exe=/e host=192.0.2.9 terminal=ssh pid=7 auid=5 uid=0 success=no"},
		{"ADD_GROUP", "pid=7 msg='id=3 res=success'", "pid=7 gid=3 success=yes"},
		{"VIRT_RESOURCE", `pid=7 msg='vm="v" uuid=u:1 new-disk="/d" result=success'`, "pid=7 vm=v uuid=u file=/d success=yes"},
		{"SOCKADDR", "saddr=01002F746D702F7300", "file=/tmp/s"},
		{"SOCKADDR", "saddr=0A0000500000000020010DB800000000000000000000000100000000", "host=2001:db8::1"},
		{"SOCKADDR", "saddr=0A00005000000000FE80000000000000000000000000000103000000", "host=fe80::1%3"},
		{"LOGIN", "pid=7 uid=0 old-auid=4294967295 auid=1000 ses=3 res=0", "pid=7 uid=0 auid=1000 ses=3 success=no"},
		{"OBJ_PID", "opid=9 obj=o", "object=o"},
		{"DAEMON_START", "pid=7 uid=0 auid=1 ses=2 subj=s res=failed", "pid=7 uid=0 auid=1 ses=2 subject=s success=no"},
		{"DAEMON_ACCEPT", "addr=192.0.2.1:60 pid=7 res=success", "host=192.0.2.1 success=yes"},
		{"DAEMON_CLOSE", "addr=2001:db8::1 res=success", "host=2001:db8::1 success=yes"},
		{"CONFIG_CHANGE", `auid=1 ses=2 path="/p" key="k" res=0`, "auid=1 ses=2 file=/p key=k success=no"},
		{"CONFIG_CHANGE", "auid=1", "auid=1 success=yes"},
		{"MAC_POLICY_LOAD", `auid=1 path="/p"`, "auid=1"},
		{"AVC", `avc:  denied  { read } for pid=7 comm="c" name="n" scontext=s tcontext=o tclass=file`, "pid=7 comm=c file=n subject=s object=o success=no"},
		{"NETFILTER_PKT", "saddr=192.0.2.3 obj=o", "host=192.0.2.3 object=o"},
		{"SECCOMP", `auid=1 pid=7 comm="c" arch=c000003e syscall=2`, "auid=1 pid=7 comm=c arch=x86_64 syscall=2"},
		{"INTEGRITY_DATA", `pid=7 name="/n" exe="/e" res=0`, "pid=7 file=/n success=no"},
		{"NETFILTER_CFG", "table=t", "uid=0 auid=4294967295 ses=4294967295 terminal=(none) exe=(null)"},
		{"NETFILTER_CFG", "table=t uid=? auid=n/a", "auid=4294967295 ses=4294967295 terminal=(none) exe=(null)"},
		{"USER_AUTH", "pid=7 uid=n/a auid=4294967296 ses=? msg='uid=0x1f res=success'", "pid=7 success=yes"},
		{"USER_AUTH", "pid=7 uid=4294967294 auid=-1 ses=1", "pid=7 uid=4294967294 auid=4294967295 ses=1"},
		{"TTY", `pid=7 comm="c" subj=s res=1`, "pid=7 comm=c"},
		{"EXECVE", `argc=1 a0="x"`, ""},
	} {
		var got []string
		var x Extractor
		x.Extract(parsed(t, stamped(c.typ, c.body)), func(f Field, v []byte) {
			if f != FieldType {
				got = append(got, f.String()+"="+string(v))
			}
		})
		want := strings.Fields(c.want)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s %s:\ngot  %q\nwant %q", c.typ, c.body, got, want)
		}
	}
}

func TestReport(t *testing.T) {
	var x Extractor
	x.Report(parsed(t, stamped("AVC", `apparmor="DENIED" profile="p" class="file" requested_mask="rw" denied_mask="w" pid=7`),
		stamped("PATH", `name="/d" nametype=PARENT`), stamped("PATH", `name="/d/f" nametype=CREATE`)), allFields)
	d := x.Decisions()
	if len(d) != 1 || d[0].Result != Denied || d[0].Result.String() != "denied" || string(d[0].Subject.B) != "p" || string(d[0].Perm.B) != "w" {
		t.Errorf("%+v", d)
	}
	if n, ok := x.Number(FieldPID); n != 7 || !ok || x.Text(FieldExe).OK || len(x.Keys()) != 0 {
		t.Error("values")
	}
	if f := x.Files(); len(f) != 2 || !f[0].Parent || f[1].Parent || string(f[1].Name) != "/d/f" {
		t.Errorf("%+v", f)
	}
	x.Report(parsed(t, stamped("USER_AVC", `pid=7 subj=s msg='avc:  granted  { send } for tcontext=o tclass=dbus exe="/e"'`)), allFields)
	if d := x.Decisions(); len(d) != 1 || d[0].Result != Granted || string(d[0].Subject.B) != "s" || string(d[0].Object.B) != "o" || string(d[0].Class.B) != "dbus" {
		t.Errorf("%+v", d)
	}
	task, ok := x.Task(parsed(t, stamped("SYSCALL", `pid=7 uid=0 comm="c" exe="/e"`)))
	if !ok || task != (Task{PID: 7, PPID: -1, UID: 0, AUID: -1, Comm: "c", Exe: "/e"}) {
		t.Errorf("%+v", task)
	}
}

// TestResult: whose word is an event's result, for a search and for a report alike.
func TestResult(t *testing.T) {
	avc := func(what string) string {
		return stamped("AVC", "avc:  "+what+` { read } for  pid=7 comm="c" scontext=s tcontext=o tclass=file`)
	}
	userAVC := func(what, more string) string {
		return stamped("USER_AVC", "pid=7 subj=s msg='avc:  "+what+` { send } for tclass=dbus exe="/e" `+more+"'")
	}
	call := func(success string) string {
		return stamped("SYSCALL", "arch=c000003e syscall=2 "+success+" exit=0 pid=7")
	}
	const yes, no, none = "yes", "no", ""
	for _, tt := range []struct {
		want    string
		records []string
	}{
		{yes, []string{avc("granted")}},
		{no, []string{avc("denied")}},
		// The call's own word, wherever it stands.
		{no, []string{avc("granted"), call("success=no")}},
		{no, []string{call("success=no"), avc("granted")}},
		{yes, []string{avc("denied"), call("success=yes")}},
		{yes, []string{call("success=yes"), avc("denied")}},
		{no, []string{stamped("URINGOP", "uring_op=18 success=no exit=-13 pid=7"), avc("granted")}},
		// A call that does not say, and events without one: the first decision.
		{yes, []string{call(""), avc("granted"), avc("denied")}},
		{no, []string{avc("denied"), call(""), avc("granted")}},
		{yes, []string{avc("granted"), avc("denied")}},
		{no, []string{avc("denied"), avc("granted"), avc("granted")}},
		{no, []string{call("success=no"), avc("granted"), avc("denied")}},
		// Other records say it, too.
		{no, []string{stamped("CONFIG_CHANGE", "auid=0 res=0"), avc("granted")}},
		{yes, []string{avc("denied"), stamped("CONFIG_CHANGE", "auid=0 res=1")}},
		{none, []string{stamped("FEATURE_CHANGE", "pid=7 res=2"), avc("denied")}},
		{none, []string{avc("denied"), stamped("FEATURE_CHANGE", "pid=7 res=2")}},
		{no, []string{stamped("FEATURE_CHANGE", "pid=7 res=2"), call("success=no")}},
		// A program's decision, and its own word beside it.
		{yes, []string{userAVC("granted", "")}},
		{no, []string{userAVC("denied", "")}},
		{no, []string{userAVC("granted", "res=failed")}},
		{yes, []string{userAVC("denied", "res=success")}},
		{no, []string{avc("granted"), userAVC("granted", "res=failed")}},
		{no, []string{userAVC("denied", ""), userAVC("granted", "")}},
		// AppArmor's decisions; what others decided is no result.
		{no, []string{stamped("AVC", `apparmor="DENIED" operation="open" profile="p" name="/n" pid=7`)}},
		{yes, []string{stamped("AVC", `apparmor="ALLOWED" operation="open" profile="p" name="/n" pid=7`)}},
		{yes, []string{call("success=yes"), stamped("AVC", `apparmor="DENIED" operation="open" profile="p" name="/n" pid=7`)}},
		{none, []string{stamped("AVC", `apparmor="STATUS" operation="profile_load" name="p" pid=7`)}},
		{none, []string{stamped("IPE_ACCESS", `ipe_op=EXECUTE pid=7 path="/b" rule="action=DENY"`)}},
		{no, []string{stamped("LANDLOCK_ACCESS", `domain=1 blockers=fs.refer path="/b"`), call("success=no"), avc("granted")}},
	} {
		ev := parsed(t, tt.records...)
		var x Extractor
		results := map[string]string{}
		is := func(where string, n int64, ok bool) {
			if ok {
				results[where] = Number(FieldSuccess, n)
			} else {
				results[where] = none
			}
		}
		x.Report(ev, allFields)
		n, ok := x.Number(FieldSuccess)
		is("report", n, ok)
		results["search"], results["index"], results["shape"] = none, none, none
		x.Extract(ev, func(f Field, v []byte) {
			if f == FieldSuccess {
				results["search"] = string(v)
			}
		})
		x.Index(ev, func(f Field, v []byte) {
			switch f {
			case FieldSuccess:
				results["index"] = string(v)
			case FieldShape:
				if s, ok := ParseShape(v); ok {
					is("shape", int64(b2i(s.Success)), s.Known)
				}
			}
		})
		for _, v := range []string{yes, no} {
			m := NewMatcher(&Query{Terms: []Term{{Op: OpEqual, Text: v, Fields: []Field{FieldSuccess}}}})
			if got := m.Match(ev); got != (v == tt.want) {
				t.Errorf("%q: -sv %s: %v", tt.records, v, got)
			}
		}
		for where, got := range results {
			if got != tt.want {
				t.Errorf("%q: in the %s %q, want %q", tt.records, where, got, tt.want)
			}
		}
	}
}
