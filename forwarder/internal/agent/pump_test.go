package agent

import (
	"bytes"
	"testing"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/google/go-cmp/cmp"
)

func TestPumpLines(t *testing.T) {
	p := &pump{prefix: []byte("node=web1 ")}
	p.record(kernel.Record{Type: 1300, Text: []byte("audit(1.000:7): a=b")})
	p.record(kernel.Record{Type: 1320, Text: []byte("audit(1.000:7): ")})
	p.record(kernel.Record{Type: 1107, Text: []byte("audit(1.000:8): msg='op=a\nb\n'")})
	p.record(kernel.Record{Type: 1799, Text: []byte("audit(1.000:9): ")})
	p.line([]byte("type=PATH msg=audit(1.000:7): x"))
	p.line([]byte("node=db type=PATH msg=audit(1.000:7): x"))
	want := "node=web1 type=SYSCALL msg=audit(1.000:7): a=b\n" +
		"node=web1 type=USER_AVC msg=audit(1.000:8): msg='op=a b '\n" +
		"node=web1 type=UNKNOWN[1799] msg=audit(1.000:9): \n" +
		"node=web1 type=PATH msg=audit(1.000:7): x\n" +
		"node=db type=PATH msg=audit(1.000:7): x\n"
	if diff := cmp.Diff(want, string(p.arena)); diff != "" {
		t.Error(diff)
	}
	if p.eoe.Load() != 1 {
		t.Errorf("%d EOE records counted", p.eoe.Load())
	}
}

// What the spool has behind its mark is left out, once and only if it is the same.
func TestPumpLeavesOutWhatIsSpooled(t *testing.T) {
	spooled := [][]byte{[]byte("node=web1 a"), []byte("node=web1 b")}
	for _, c := range []struct {
		name string
		in   []string
		want string
	}{
		{"goes on", []string{"a", "b", "c", "a"}, "node=web1 c\nnode=web1 a\n"},
		{"another file", []string{"x", "a", "b"}, "node=web1 x\nnode=web1 a\nnode=web1 b\n"},
		{"differs in between", []string{"a", "y", "b"}, "node=web1 y\nnode=web1 b\n"},
	} {
		p := &pump{prefix: []byte("node=web1 "), spooled: spooled}
		for _, line := range c.in {
			p.line([]byte(line))
		}
		if diff := cmp.Diff(c.want, string(p.arena)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

type discard struct{ n int }

func (d *discard) Append(_ []byte, lines ...[]byte) error { d.n += len(lines); return nil }

func TestPumpAllocatesNothing(t *testing.T) {
	p := &pump{prefix: []byte("node=web1 "), spool: &discard{}}
	r := kernel.Record{Type: 1300, Text: bytes.Repeat([]byte("x"), 300)}
	n := testing.AllocsPerRun(100, func() {
		p.reset()
		for range 100 {
			p.record(r)
		}
		p.commitOrCount()
	})
	if n > 0 {
		t.Errorf("%v allocations for 100 records", n)
	}
}

func BenchmarkPump(b *testing.B) {
	p := &pump{prefix: []byte("node=web1 "), spool: &discard{}}
	r := kernel.Record{Type: 1300, Text: bytes.Repeat([]byte("x"), 300)}
	b.ReportAllocs()
	for i := range b.N {
		if i%400 == 0 {
			p.commitOrCount()
			p.reset()
		}
		p.record(r)
	}
}
