package query

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// What a glance at the text rules out, the matcher must not find.
func TestGlanceRulesOutNothingFound(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 4))
	numbers := []string{"0", "1", "-1", "-13", "13", "013", "-0013", "4294967295", "4294967296", "4294967309", "-4294967283", "?", `"13"`, "'13'", "13,", "13)", "13x", "99999999999999999999", "", "-"}
	names := []string{"pid", "ppid", "exit", "syscall", "auid", "loginuid", "old-auid", "ses", "uid", "old ses", "(pid", "opid", "items", "euid", "(uid", "ouid", "a-uid"}
	types := []string{"SYSCALL", "USER_LOGIN", "LOGIN", "SECCOMP", "NETFILTER_CFG", "UNKNOWN[1335]", "1325", "DAEMON_START", "AVC", "TTY"}
	fields := []Field{FieldPID, FieldPPID, FieldExit, FieldSyscall, FieldAUID, FieldSession, FieldUID}
	found, ruledOut := 0, 0
	rounds := need.Size(200_000, 40_000)
	for range rounds {
		line := "type=" + types[r.IntN(len(types))] + " msg=audit(1.000:2):"
		word := func() string { return " " + names[r.IntN(len(names))] + "=" + numbers[r.IntN(len(numbers))] }
		for range r.IntN(4) {
			line += word()
		}
		if r.IntN(3) == 0 {
			line += " msg='op=x" + word() + word() + "'"
		}
		ev := &event.Event{Records: make([]record.Record, 1)}
		_ = ev.Records[0].Parse([]byte(line)) // bad ones too
		n := []int64{13, -13, 0, 1, -1, UnsetID, 4294967296, 4294967309}[r.IntN(8)]
		q := &Query{Terms: []Term{{Fields: fields[r.IntN(len(fields)):][:1], Text: strconv.FormatInt(n, 10)}}}
		m := NewMatcher(q)
		may, match := m.MayMatch([]byte(line)), m.Match(ev)
		if s := m.Seeker(); s != nil {
			text := "type=A pid=7\n" + line + "\n"
			if s.Begin(); match && s.Next([]byte(text), 13) < 0 {
				t.Fatalf("%+v finds %q, in which nothing is found by seeking", q.Terms[0], line)
			}
		}
		switch {
		case match && !may:
			t.Fatalf("%+v finds %q, which a glance rules out", q.Terms[0], line)
		case match:
			found++
		case !may:
			ruledOut++
		}
	}
	if found < rounds/200 || ruledOut < rounds/20 {
		t.Errorf("%d found, %d ruled out: that is hardly a test", found, ruledOut)
	}
}
