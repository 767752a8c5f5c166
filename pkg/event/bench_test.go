package event

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/pkg/record"
)

// benchRecords are the real log's records, parsed, many times over with new
// times and serials; with ways > 1, that many hosts' in turns.
func benchRecords(b *testing.B, ways int) []record.Record {
	lines := bytes.Split(bytes.TrimSpace(readLog(b, "kernel-raw.log")), []byte("\n"))
	var out []record.Record
	for round := range 40 {
		for _, line := range lines {
			for w := range ways {
				var r record.Record
				raw := line
				if ways > 1 {
					raw = append(fmt.Appendf(nil, "node=host%d.example ", w), line...)
				}
				if err := r.Parse(raw); err != nil {
					b.Fatal(err)
				}
				r.Sec += int64(round * 10)
				r.Serial += uint64(round * len(lines))
				out = append(out, r)
			}
		}
	}
	return out
}

func benchAdd(b *testing.B, ways int) {
	records := benchRecords(b, ways)
	b.ReportAllocs()
	events := 0
	now := time.Now()
	a := NewAssembler(Config{}, func(*Event) { events++ })
	for b.Loop() {
		for i := range records {
			a.Add(&records[i], uint64(i), now)
		}
		a.Flush()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(records)), "ns/record")
	b.ReportMetric(float64(b.N*len(records))/float64(events), "records/event")
}

func BenchmarkAdd(b *testing.B)         { benchAdd(b, 1) }
func BenchmarkAdd50Hosts(b *testing.B)  { benchAdd(b, 50) }
func BenchmarkAdd500Hosts(b *testing.B) { benchAdd(b, 500) }

// TestAllocations: an event of up to six records is one allocation.
func TestAllocations(t *testing.T) {
	var records []record.Record
	for _, typ := range []string{"SYSCALL", "CWD", "PATH", "PROCTITLE", "USER"} {
		var r record.Record
		serial := 1
		if typ == "USER" {
			serial = 2
		}
		if err := r.Parse(fmt.Appendf(nil, "node=a type=%s msg=audit(1.000:%d): a=1", typ, serial)); err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	now := time.Now()
	a := NewAssembler(Config{}, func(*Event) {})
	if n := testing.AllocsPerRun(100, func() {
		for i := range records {
			a.Add(&records[i], 0, now)
		}
	}); n != 2 {
		t.Errorf("%v allocations for two events", n)
	}
}
