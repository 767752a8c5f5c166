package head

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store/bolt"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/checkpoint"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/fsys"
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
	f := newFeeder(t, seed, hosts, storetest.Templates(t))
	out, raw = f.batches(n, per)
	for _, b := range f.open {
		out = append(out, b)
	}
	return out, raw
}

// feeder makes records of many hosts, as much of them as is wanted at a time.
type feeder struct {
	g     *storetest.Generator
	open  map[string]*journal.Batch
	conns map[string]int
	seqs  map[string]uint32
	// live has batches received when their records were made, else all are at the same time, and each host say every minute that it lives, as
	// forwarders do.
	live bool
	said map[string]int64 // by host: when it did
	says map[string]int   // and how often
}

func newFeeder(t testing.TB, seed uint64, hosts int, log []byte) *feeder {
	return &feeder{g: storetest.NewGenerator(seed, log, hosts, storetest.Start), open: map[string]*journal.Batch{}, conns: map[string]int{}, seqs: map[string]uint32{}, said: map[string]int64{}, says: map[string]int{}}
}

// ordinary leaves out of a log what would be a loss, or auditing switched off, every other second: a daemon's records, which have none of the
// kernel's numbers (the generator gives all of a host's events one after the other), and changes of whether auditing is on.
func ordinary(log []byte) (out []byte) {
	for line := range bytes.Lines(log) {
		if !bytes.Contains(line, []byte("type=DAEMON_")) && !bytes.Contains(line, []byte("audit_enabled=")) && !bytes.Contains(line, []byte("type=SYSTEM_")) {
			out = append(out, line...)
		}
	}
	return out
}

// alive puts a host's statement before its next records, where a minute is over.
func (f *feeder) alive(host string, recs [][]byte) [][]byte {
	now := f.g.Now().UnixMilli()
	last := f.said[host]
	if now-last < 60_000 {
		return recs
	}
	f.said[host] = now
	f.says[host]++
	if last == 0 {
		last = now - 60_000
	}
	stamp := func(ms int64) string { return fmt.Sprintf("%d.%03d", ms/1000, ms%1000) }
	n := f.seqs[host]
	text := fmt.Sprintf("node=%s type=DAEMON_RESUME msg=audit(%s:%d): op=alive run=%016x n=%d first=%s last=%s boot=4f1d7c0e-8a52-4f0b-9d0e-1f6a5b2c3d4e source=kernel registered=yes enabled=1 found=1 "+
		"serial=74231 kernel-lost=0 backlog=0 invisible=0 records=%d dropped=0 lost=0 unsent=0 auid=4294967295 pid=77 res=success", host, stamp(now), n+1, f.conns[host], f.says[host], stamp(last), stamp(now), n)
	return append([][]byte{[]byte(text)}, recs...)
}

// batches makes the next n records; those of batches that are not full come with the next ones.
func (f *feeder) batches(n, per int) (out []*journal.Batch, raw int64) {
	for n > 0 {
		host, recs := f.g.Event()
		if f.conns[host] == 0 {
			f.conns[host] = len(f.conns) + 1
		}
		if f.live {
			recs = f.alive(host, recs)
		}
		for _, r := range recs {
			b := f.open[host]
			if b == nil {
				b = &journal.Batch{Conn: uint64(f.conns[host]), Sender: from(peer(f.conns[host])), Managed: true, Received: storetest.Start}
				f.open[host] = b
			}
			f.seqs[host]++
			b.Records = append(b.Records, journal.Record{Seq: journal.OwnNumbering | f.seqs[host], Raw: r})
			raw += int64(len(r))
			n--
			if len(b.Records) >= per {
				if f.live {
					b.Received = f.g.Now()
				}
				out = append(out, b)
				delete(f.open, host)
			}
		}
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

// ingestRun is how many records a run of BenchmarkIngest has, and ingestPart how many are made at a time, while nothing is
// counted. At 12 ms between two events at most a run is two hours of what the hosts send, so what is done once an hour is in it.
const (
	ingestRun  = 4_000_000
	ingestPart = 400_000
)

// BenchmarkIngest is the CPU of everything between a decoded frame and the disk:
// journal with sync, parsing, assembly, index, compression, bbolt, and a checkpoint of the log each time that records were made, with
// a key (seal_proves) signed. `make bench -only ledger` makes a profile of it, and leaves out what feeder takes.
func BenchmarkIngest(b *testing.B) {
	for _, c := range []struct {
		hosts, per int
		step       int64  // ms between two events of the fleet, at most
		key        string // none; else what is proved
	}{
		{50, 256, 12, "none"}, {50, 256, 12, "frames"}, {50, 256, 12, "events"}, {50, 16, 12, "none"}, {1000, 16, 12, "none"}, {1000, 16, 12, "frames"}, {1000, 16, 12, "events"},
		{1000, 16, 1, "none"}, {1000, 16, 1, "frames"}, {1000, 16, 1, "events"}, {1, 1, 12, "none"},
	} {
		b.Run(fmt.Sprintf("hosts=%d/batch=%d/step=%d/key=%s", c.hosts, c.per, c.step, c.key), func(b *testing.B) {
			in := ingest{hosts: c.hosts, per: c.per, step: c.step, key: c.key, run: ingestRun, part: ingestPart}
			if c.per == 1 {
				in.run, in.part = 20_000, 20_000
			}
			for range b.N {
				in.once(b)
			}
			per := float64(b.N) * float64(in.run)
			b.ReportMetric(float64(in.cpu.Nanoseconds())/per, "cpu-ns/record")
			b.ReportMetric(per/in.wall.Seconds(), "records/s")
			b.ReportMetric(100*float64(in.disk)/float64(in.raw), "%disk")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// ingest is what a benchmark of BenchmarkIngest has, and has measured.
type ingest struct {
	hosts, per, run, part int
	step                  int64
	key                   string
	cpu, wall             time.Duration
	disk, raw             int64 // of the last run
}

// once is a run on a store of its own.
func (in *ingest) once(b *testing.B) {
	dir := b.TempDir()
	r, err := openRig(dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	proved := in.key == "events"
	r.st.ProveEvents(proved)
	log := seal.LogConfig{Tree: r.st.Seals(), Store: dir, FS: fsys.OS, CatchUp: func(ctx context.Context, _ bool) error { return r.st.CatchUp(ctx, proved) }}
	if in.key != "none" {
		secret, public, err := checkpoint.Generate("hub")
		if err != nil {
			b.Fatal(err)
		}
		if log.Signer, err = checkpoint.ReadSigner(secret); err != nil {
			b.Fatal(err)
		}
		log.Public = public
	}
	l, err := seal.OpenLog(log)
	if err != nil {
		b.Fatal(err)
	}
	f := newFeeder(b, 1, in.hosts, ordinary(storetest.Templates(b)))
	f.live, in.raw = true, 0
	f.g.Step(in.step)
	sent := uint64(0)
	for left := in.run; left > 0; left -= in.part {
		list, raw := f.batches(in.part, in.per)
		in.raw += raw
		start, from := cpuTime(), time.Now()
		var wg sync.WaitGroup
		for _, x := range list {
			wg.Add(1)
			if err := r.j.Submit(context.Background(), x, func(err error) {
				if err != nil {
					b.Error(err)
				}
				wg.Done()
			}); err != nil {
				b.Fatal(err)
			}
			if in.per == 1 {
				wg.Wait()
			}
		}
		wg.Wait()
		for _, x := range list {
			sent += uint64(len(x.Records))
		}
		if left == in.part {
			if err := r.h.Flush(context.Background()); err != nil {
				b.Fatal(err)
			}
		} else { // so that what waits in memory is what would in a collector
			need.Wait(b, "the head follows", func() bool { return r.h.Stats().Records >= sent })
		}
		if _, _, err := l.Checkpoint(context.Background()); err != nil && !errors.Is(err, seal.ErrNoKey) {
			b.Fatal(err)
		}
		in.cpu += cpuTime() - start
		in.wall += time.Since(from)
	}
	in.disk = diskUse(filepath.Join(dir, "partitions"))
	if err := r.close(); err != nil {
		b.Fatal(err)
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
