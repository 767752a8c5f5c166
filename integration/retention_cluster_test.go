//go:build cluster

package integration

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/integration/harness/cluster"
)

// Of two collectors on one cluster one ends a part and drops it under max_bytes, then the other one. Both have it in their logs, who did it by its own word and the other by the cluster's;
// verify finds nothing changed at either, whoever dropped it, also where one was away meanwhile; and what is left is found at both.
func TestClusterRetention(t *testing.T) {
	cl := cluster.Start(t, cluster.Shape{})
	f := &sealedFleet{collectorsOn(t, cl, "web1", "db1", "web2", "db2"), map[string]string{}}
	f.startSealed("east")
	f.startSealed("west")
	usual := map[string]harness.CollectorOptions{"east": f.opts["east"], "west": f.opts["west"]}
	end := func(name string) {
		t.Helper()
		if err := f.all[name].Terminate(time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	// noted counts the drops that a collector's log has by its own word and by the cluster's, and checks that verify finds nothing changed.
	noted := func(name string) (own, told int) {
		t.Helper()
		said, code := f.verify(name)
		if code != 0 || !strings.Contains(said, "nothing was changed: ") {
			t.Fatalf("verify at %s: exit %d\n%s", name, code, said)
		}
		for line := range strings.Lines(said) {
			switch {
			case !strings.Contains(line, "note: partition cluster ") || !strings.Contains(line, "max_bytes = 1"):
			case strings.Contains(line, "by the collector of the store "):
				told++
			default:
				own++
			}
		}
		return own, told
	}
	host := map[string]string{"east": "web1", "west": "db1"}
	for i, who := range []string{"east", "west"} {
		other := map[string]string{"east": "west", "west": "east"}[who]
		own, told := noted(who)
		theirOwn, theirTold := noted(other)
		for name, h := range host {
			f.send(h, name, recordsOf(t, h, uint64(10*i+len(name)), 900))
		}
		if !harness.Poll(time.Minute, func() bool {
			all := true
			for name, h := range host {
				if err := f.all[name].Signal(syscall.SIGUSR1); err != nil { // it stores what it has, and ends the part
					t.Fatal(err)
				}
				row, _ := hostOf(t, f.all[name], h)
				all = all && len(row.Collectors) == 1 && row.Collectors[0].Unstored == 0
			}
			return all
		}) {
			t.Fatal("not all is stored")
		}
		if i == 1 { // it is away while the days are dropped
			end(other)
		}
		end(who)
		o := usual[who]
		o.Args = append(slices.Clone(o.Args), "--max-bytes", "1")
		f.opts[who] = o
		f.start(who)
		if !harness.Poll(time.Minute, func() bool { return strings.Contains(f.all[who].Output(), "dropped a day of events") }) {
			t.Fatalf("%s drops nothing:\n%s", who, f.all[who].Output())
		}
		end(who)
		f.opts[who] = usual[who]
		f.start(who)
		if i == 1 {
			f.start(other)
		}
		if now, others := noted(who); now == own || others != told {
			t.Errorf("%s dropped it, and has %d drops as its own, %d before, and %d as others', %d before", who, now, own, others, told)
		}
		if !harness.Poll(2*time.Minute, func() bool {
			now, others := noted(other)
			return now == theirOwn && others > theirTold
		}) {
			now, others := noted(other)
			t.Errorf("%s dropped it, and %s has %d drops as its own, %d before, and %d as others', %d before", who, other, now, theirOwn, others, theirTold)
		}
	}
	for name, h := range map[string]string{"east": "web2", "west": "db2"} {
		lines := recordsOf(t, h, 30, 200)
		f.send(h, name, lines)
		for at := range host {
			sameRecords(t, lines, foundAll(t, f.all[at], len(lines), "-n", h))
		}
	}
}
