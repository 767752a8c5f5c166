package head

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"

	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// rig is the whole pipeline on a folder.
type rig struct {
	dir string
	j   *journal.Journal
	st  *bolt.Store
	h   *Head
}

// openRig opens what is in dir; change may adjust the options.
func openRig(dir string, change func(*journal.Options, *Options)) (*rig, error) {
	r := &rig{dir: dir}
	var err error
	if r.st, err = bolt.Open(bolt.Options{Dir: dir}); err != nil {
		return nil, err
	}
	jo := journal.Options{Dir: filepath.Join(dir, "journal")}
	// A search waits for what it must find: on a machine with much else to do the head may be
	// behind for longer than a collector would have a search wait.
	ho := Options{Place: r.st, Events: r.st, SearchWait: time.Hour}
	if change != nil {
		change(&jo, &ho)
	}
	if r.j, _, err = journal.Open(jo); err != nil {
		r.st.Close()
		return nil, err
	}
	ho.Journal = r.j
	if r.h, err = Open(ho); err != nil {
		r.j.Close()
		r.st.Close()
		return nil, err
	}
	return r, nil
}

func (r *rig) close() error {
	err := r.h.Close()
	for _, c := range []func() error{r.j.Close, r.st.Close} {
		if cerr := c(); err == nil {
			err = cerr
		}
	}
	return err
}

// from is a sender in clear text.
func from(addr netip.AddrPort) journal.Sender {
	return journal.Sender{Addr: addr, Transport: event.TransportTCP}
}

func peer(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 60)
}

// batches makes n records of many hosts, up to per a batch, each host on a
// connection of its own with our own numbering.
func batches(t testing.TB, seed uint64, hosts, n, per int) (out []*journal.Batch, raw int64) {
	g := storetest.NewGenerator(seed, storetest.Templates(t), hosts, storetest.Start)
	open := map[string]*journal.Batch{}
	conns := map[string]int{}
	seqs := map[string]uint32{}
	for n > 0 {
		host, recs := g.Event()
		if conns[host] == 0 {
			conns[host] = len(conns) + 1
		}
		for _, r := range recs {
			b := open[host]
			if b == nil {
				b = &journal.Batch{Conn: uint64(conns[host]), Sender: from(peer(conns[host])), Managed: true, Received: storetest.Start}
				open[host] = b
			}
			seqs[host]++
			b.Records = append(b.Records, journal.Record{Seq: journal.OwnNumbering | seqs[host], Raw: r})
			raw += int64(len(r))
			n--
			if len(b.Records) >= per {
				out = append(out, b)
				delete(open, host)
			}
		}
	}
	for _, b := range open {
		out = append(out, b)
	}
	return out, raw
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func diskUse(dir string) (n int64) {
	_ = filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if st, ok := info.Sys().(*syscall.Stat_t); err == nil && ok && info.Mode().IsRegular() {
			n += st.Blocks * 512
		}
		return nil
	})
	return n
}

// BenchmarkIngest is the CPU of everything between a decoded frame and the disk:
// journal with sync, parsing, assembly, index, compression, bbolt.
func BenchmarkIngest(b *testing.B) {
	for _, c := range []struct {
		hosts, per int
		proved     bool // with what proves single events
	}{{50, 256, false}, {50, 256, true}, {50, 16, false}, {1000, 16, false}, {1000, 16, true}, {1, 1, false}} {
		b.Run(fmt.Sprintf("hosts=%d/batch=%d/proved=%v", c.hosts, c.per, c.proved), func(b *testing.B) {
			n := 400_000
			if c.per == 1 {
				n = 20_000
			}
			list, raw := batches(b, 1, c.hosts, n, c.per)
			b.ResetTimer()
			var cpu, wall time.Duration
			var disk int64
			for range b.N {
				dir := b.TempDir()
				r, err := openRig(dir, nil)
				if err != nil {
					b.Fatal(err)
				}
				r.st.ProveEvents(c.proved)
				fresh := make([]*journal.Batch, len(list))
				for i, x := range list {
					y := *x
					y.Records = append([]journal.Record(nil), x.Records...)
					fresh[i] = &y
				}
				start, from := cpuTime(), time.Now()
				var wg sync.WaitGroup
				for _, x := range fresh {
					wg.Add(1)
					if err := r.j.Submit(context.Background(), x, func(err error) {
						if err != nil {
							b.Error(err)
						}
						wg.Done()
					}); err != nil {
						b.Fatal(err)
					}
					if c.per == 1 {
						wg.Wait()
					}
				}
				wg.Wait()
				if err := r.h.Flush(context.Background()); err != nil {
					b.Fatal(err)
				}
				cpu += cpuTime() - start
				wall += time.Since(from)
				disk = diskUse(filepath.Join(dir, "partitions"))
				if err := r.close(); err != nil {
					b.Fatal(err)
				}
			}
			per := float64(b.N) * float64(n)
			b.ReportMetric(float64(cpu.Nanoseconds())/per, "cpu-ns/record")
			b.ReportMetric(per/wall.Seconds(), "records/s")
			b.ReportMetric(100*float64(disk)/float64(raw), "%disk")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkSearch is a selective and a full query over 200 MB stored.
func BenchmarkSearch(b *testing.B) {
	dir := b.TempDir()
	r, err := openRig(dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer r.close()
	list, raw := batches(b, 1, 50, 1_000_000, 256)
	rare := []byte(`node=web7.example.net type=SYSCALL msg=audit(1795334400.500:77): arch=c000003e syscall=2 success=yes exit=3 items=0 ppid=1 pid=999999 auid=1000 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=1 comm="cat" exe="/bin/cat" key="needle"`)
	list = append(list, &journal.Batch{Conn: 9999, Sender: from(peer(9999)), Received: storetest.Start, Records: []journal.Record{{Raw: rare}}})
	var wg sync.WaitGroup
	for _, x := range list {
		wg.Add(1)
		if err := r.j.Submit(context.Background(), x, func(error) { wg.Done() }); err != nil {
			b.Fatal(err)
		}
	}
	wg.Wait()
	time.Sleep(3 * time.Second) // the needle has no end of event
	if err := r.h.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	key := func(op query.Op, s string, f query.Field) *query.Query {
		return &query.Query{Terms: []query.Term{{Fields: []query.Field{f}, Op: op, Text: s}}}
	}
	for name, q := range map[string]*query.Query{
		"key":    key(query.OpContains, "needle", query.FieldKey),
		"pid":    key(query.OpEqual, "999999", query.FieldPID),
		"file":   key(query.OpContains, "/srv/data/7/file-7", query.FieldFile),
		"failed": key(query.OpEqual, "no", query.FieldSuccess),
		"node":   {Nodes: []string{"web7.example.net"}},
		"all":    {},
	} {
		b.Run(name, func(b *testing.B) {
			found := 0
			for range b.N {
				found = 0
				if err := r.h.Scan(context.Background(), q, func(*event.Event) error { found++; return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(found), "events")
			b.ReportMetric(float64(raw)*float64(b.N)/1e6/b.Elapsed().Seconds(), "MB/s")
		})
	}

}

// BenchmarkStart is from nothing to ready after a kill: 30 days of partitions, and a
// journal with as many records as ever wait in memory when tables have their
// default size.
func BenchmarkStart(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "store")
	r, err := openRig(dir, func(_ *journal.Options, o *Options) { o.TableBytes = 1 << 30 })
	if err != nil {
		b.Fatal(err)
	}
	send := func(list []*journal.Batch, day int) {
		var wg sync.WaitGroup
		for _, x := range list {
			x.Received = storetest.Start.AddDate(0, 0, day)
			x.Managed = false // the same records every day
			wg.Add(1)
			if err := r.j.Submit(context.Background(), x, func(err error) {
				if err != nil {
					b.Error(err)
				}
				wg.Done()
			}); err != nil {
				b.Fatal(err)
			}
		}
		wg.Wait()
	}
	for day := range 30 {
		list, _ := batches(b, 1, 200, 20_000, 64)
		send(list, day)
	}
	if err := r.h.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	list, raw := batches(b, 2, 200, 300_000, 64)
	send(list, 30)
	killed := filepath.Join(b.TempDir(), "killed")
	copyTree(b, dir, killed)
	if err := r.close(); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	var took time.Duration
	for range b.N {
		b.StopTimer()
		fresh := filepath.Join(b.TempDir(), "fresh")
		copyTree(b, killed, fresh)
		b.StartTimer()
		from := time.Now()
		r, err := openRig(fresh, nil)
		if err != nil {
			b.Fatal(err)
		}
		took += time.Since(from)
		b.StopTimer()
		if n := r.h.Stats().Replayed; n < 300_000 {
			b.Fatalf("only %d records were replayed", n)
		}
		if err := r.close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(took.Seconds()/float64(b.N), "s/start")
	b.ReportMetric(float64(raw)/(1<<20), "MB-replayed")
}
