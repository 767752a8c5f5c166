package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// shape is a load: connections × records in flight on each.
type shape struct {
	conns, window, records int
}

// serverKind is a server as one column of the table.
type serverKind struct {
	name  string
	start func(b *bench, dir string) (addr string, p *harness.Proc, err error)
}

func stockServer(flush string) serverKind {
	return serverKind{"stock " + flush, func(_ *bench, dir string) (string, *harness.Proc, error) {
		a, err := harness.StartAuditdServer(dir, map[string]string{"flush": flush, "tcp_listen_queue": "1024"})
		if err != nil {
			return "", nil, err
		}
		return a.Addr(), a.Proc, nil
	}}
}

func ourServer(flush string) serverKind {
	return serverKind{"ours " + flush, func(b *bench, dir string) (string, *harness.Proc, error) {
		c, err := harness.StartCollector(b.bins, harness.CollectorOptions{Store: dir, Flush: flush, Args: []string{"--tcp-listen-queue", "1024"}})
		if err != nil {
			return "", nil, err
		}
		return c.Addr(), c.Proc, nil
	}}
}

// serverRun is what one run of a load on one server showed.
type serverRun struct {
	rate     float64
	cpu      float64 // seconds a million records, until all is indexed and the server has stopped
	p50, p99 time.Duration
	peak     int64
	disk     float64 // what the store takes, of the text; 0 for the stock server
	wakes    float64 // a second; of paced loads only
}

func (b *bench) runServer(k serverKind, s shape, seed int) (serverRun, error) {
	return b.runLoad(k, harness.Load{Conns: s.conns, Window: s.window, Records: s.records, Seed: uint64(seed)})
}

// withServer starts a fresh server with its files below dir/server, and ends it when
// use has returned.
func (b *bench) withServer(k serverKind, use func(dir, addr string, p *harness.Proc) error) error {
	dir, err := b.scratch("server")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	addr, p, err := k.start(b, filepath.Join(dir, "server"))
	if err != nil {
		return err
	}
	defer p.Kill()
	if err := use(dir, addr, p); err != nil {
		return fmt.Errorf("%s: %w; its output:\n%s", k.name, err, p.Output())
	}
	return nil
}

// runLoad gives a fresh server a load, whose address and records are put in here.
func (b *bench) runLoad(k serverKind, load harness.Load) (r serverRun, err error) {
	err = b.withServer(k, func(dir, addr string, p *harness.Proc) error {
		load.Addr, load.Corpus = addr, b.raw
		r, err = b.measureLoad(filepath.Join(dir, "server"), p, &load)
		return err
	})
	return r, err
}

func (b *bench) measureLoad(store string, p *harness.Proc, load *harness.Load) (r serverRun, _ error) {
	before, err := p.Usage()
	if err != nil {
		return r, err
	}
	got, err := load.Run(b.ctx)
	if err != nil {
		return r, fmt.Errorf("at %d × %d: %w", load.Conns, load.Window, err)
	}
	live, err := p.Usage()
	if err != nil {
		return r, err
	}
	if err := p.Terminate(2 * time.Minute); err != nil {
		return r, err
	}
	after, err := p.Usage()
	if err != nil {
		return r, err
	}
	disk, err := partitionBytes(store)
	if err != nil {
		return r, err
	}
	return serverRun{
		disk: float64(disk) / float64(got.Bytes),
		rate: got.Rate(),
		cpu:  (after.CPU - before.CPU).Seconds() / float64(got.Acked) * 1e6,
		p50:  got.P50, p99: got.P99, peak: max(live.PeakRSS, live.RSS),
	}, nil
}

// medians runs each kind by turns and returns the medians.
func (b *bench) medians(kinds []serverKind, s shape) map[string]serverRun {
	return b.mediansOf(kinds, fmt.Sprintf("%3d × %-3d", s.conns, s.window), func(k serverKind, round int) (serverRun, error) {
		return b.runServer(k, s, 1000*round)
	})
}

// mediansOf does the runs of each kind by turns, what says of which load.
func (b *bench) mediansOf(kinds []serverKind, what string, run func(k serverKind, round int) (serverRun, error)) map[string]serverRun {
	all := map[string][]serverRun{}
	for round := range b.rounds {
		for _, k := range kinds {
			r, err := run(k, round)
			if b.ctx.Err() != nil {
				return nil
			}
			if err != nil {
				b.fail("%v", err)
				continue
			}
			progress("%s %-24s %9s records/s  %5.1f CPU s/M  p50 %s p99 %s  peak %s",
				what, k.name, count(r.rate), r.cpu, short(r.p50), short(r.p99), mib(r.peak))
			all[k.name] = append(all[k.name], r)
		}
	}
	out := map[string]serverRun{}
	for name, runs := range all {
		out[name] = medianRun(runs)
	}
	return out
}

func medianRun(runs []serverRun) serverRun {
	var rate, cpu, disk, wakes []float64
	var p50, p99 []time.Duration
	var peak []int64
	for _, r := range runs {
		rate, cpu, disk, wakes = append(rate, r.rate), append(cpu, r.cpu), append(disk, r.disk), append(wakes, r.wakes)
		p50, p99, peak = append(p50, r.p50), append(p99, r.p99), append(peak, r.peak)
	}
	return serverRun{median(rate), median(cpu), median(p50), median(p99), median(peak), median(disk), median(wakes)}
}

// servers compares `collector serve` with an aggregating stock auditd.
func (b *bench) servers() error {
	b.printf("## Server\n\n")
	b.printf("Each acknowledges every record of a load of connections × in flight. Stock auditd as shipped (`flush = incremental_async`: acknowledged\n")
	b.printf("before it is on disk, not indexed); ours with `--flush sync`: on disk before it is acknowledged, CPU until it is indexed and sealed. Median of %d.\n\n", b.rounds)
	b.printf("| load | stock records/s | ours | ratio | stock CPU s/M | ours | ratio | stock p50 / p99 | ours p50 / p99 | stock RSS | ours |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	stock, ours := stockServer("incremental_async"), ourServer("sync")
	shapes := []shape{{1, 1, 5_000}, {1, 256, 200_000}, {50, 1, 50_000}, {50, 256, 300_000}, {200, 1, 50_000}}
	if b.scale > 1 {
		shapes = append(shapes, shape{1000, 16, 100_000})
	}
	for _, s := range shapes {
		s.records *= b.scale
		m := b.medians([]serverKind{stock, ours}, s)
		st, us := m[stock.name], m[ours.name]
		b.printf("| %d × %d | %s | %s | %s | %.1f | %.1f | %s | %s / %s | %s / %s | %s | %s |\n", s.conns, s.window,
			count(st.rate), count(us.rate), times(us.rate/st.rate), st.cpu, us.cpu, times(us.cpu/st.cpu),
			short(st.p50), short(st.p99), short(us.p50), short(us.p99), mib(st.peak), mib(us.peak))
	}
	b.printf("\nThe same promise on both sides:\n\n| load | flush | stock records/s | ours | ratio |\n|---|---|---|---|---|\n")
	for _, row := range []struct {
		s             shape
		stock, oursFl string
	}{
		{shape{1, 1, 2_000}, "sync", "sync"},
		{shape{10, 16, 4_000}, "sync", "sync"},
		{shape{1, 1, 10_000}, "incremental_async", "incremental_async"},
	} {
		st, us := stockServer(row.stock), ourServer(row.oursFl)
		m := b.medians([]serverKind{st, us}, row.s)
		b.printf("| %d × %d | %s | %s | %s | %s |\n", row.s.conns, row.s.window, row.stock,
			count(m[st.name].rate), count(m[us.name].rate), times(m[us.name].rate/m[st.name].rate))
	}
	b.printf("\n")
	return nil
}
