package query

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
)

const testLogs = "../search/testdata/"

func TestExtractAllocatesNothing(t *testing.T) {
	events := eventtest.Read(t, testLogs+"kernel-node.log")
	var x Extractor
	n := 0
	add := func(_ Field, v []byte) { n += len(v) }
	if avg := testing.AllocsPerRun(20, func() {
		for _, ev := range events {
			x.Extract(ev, add)
		}
	}); avg != 0 {
		t.Errorf("Extract allocates %v times for %d events", avg, len(events))
	}
	m := NewMatcher(&Query{Terms: []Term{{Fields: []Field{FieldFile}, Op: OpContains, Text: "nowhere"}}})
	if avg := testing.AllocsPerRun(20, func() {
		for _, ev := range events {
			m.Match(ev)
		}
	}); avg != 0 {
		t.Errorf("Match allocates %v times for %d events", avg, len(events))
	}
}

func TestExtract(t *testing.T) {
	ev := parsed(t,
		stamped("SYSCALL", `arch=c000003e syscall=59 success=yes exit=0 a0=1 a1=2 a2=0 a3=0 items=1 ppid=10 pid=901 auid=1000 uid=1 gid=2 euid=3 `+
			`suid=0 fsuid=0 egid=4 sgid=0 fsgid=0 tty=pts0 ses=5 comm=6120622222 exe="/usr/bin/x" subj=s_t key=6B31016B32`+"\x1d"+`AUID="alice" UID="daemon" EUID="sys" GID="bin" EGID="tty"`),
		stamped("CWD", `cwd="/home"`),
		stamped("PATH", `item=0 name="./f" obj=o_t nametype=NORMAL`),
		stamped("SOCKADDR", "saddr=02000050C0000201"),
	)
	want := []string{
		"type 1300", "type 1307", "type 1302", "type 1306", "key k1", "key k2", "pid 901", "ppid 10", "auid 1000", "uid 1", "euid 3",
		"gid 2", "egid 4", "ses 5", "syscall 59", "arch x86_64", "success yes", "exit 0", `comm a b""`, "exe /usr/bin/x",
		"file /home/./f", "host 192.0.2.1", "terminal pts0", "subject s_t", "object o_t",
		"auid-name alice", "uid-name daemon", "euid-name sys", "gid-name bin", "egid-name tty", "file /home",
	}
	var got []string
	var x Extractor
	x.Extract(ev, func(f Field, v []byte) { got = append(got, f.String()+" "+string(v)) })
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func FuzzExtract(f *testing.F) {
	for _, name := range []string{"types", "fleet", "kernel-node"} {
		b, err := os.ReadFile("../search/testdata/" + name + ".log")
		if err != nil {
			f.Fatal(err)
		}
		for i, line := range strings.Split(string(b), "\n") {
			if i%7 == 0 {
				f.Add([]byte(line))
			}
		}
	}
	f.Fuzz(func(t *testing.T, log []byte) {
		var x Extractor
		for _, ev := range eventtest.Parse(log) {
			x.Extract(ev, func(field Field, v []byte) {
				// What the index holds must be found by its own words.
				q := &Query{Terms: []Term{{Fields: []Field{field}, Text: string(v)}}}
				if field != FieldType && !NewMatcher(q).Match(ev) {
					t.Errorf("%s %q is not found in %q", field, v, ev.Records[0].Raw)
				}
			})
		}
	})
}

// parsed is the one event of some records.
func parsed(t testing.TB, lines ...string) *event.Event {
	t.Helper()
	events := eventtest.Parse([]byte(strings.Join(lines, "\n")))
	if len(events) != 1 {
		t.Fatalf("%q are %d events", lines, len(events))
	}
	return events[0]
}

// stamped is a record of 1700000000.123:45.
func stamped(typ, body string) string {
	return "type=" + typ + " msg=audit(1700000000.123:45): " + body
}
