package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

const (
	coverHosts = 1000
	coverDays  = 90
	coverAsked = 5
)

// ledger shows what the account of completeness and the seal cost: the same collector with and without them,
// and what a question about a fleet's three months takes.
func (b *bench) ledger() error {
	if err := b.ledgerCost(); err != nil {
		return err
	}
	if err := b.ledgerShare(); err != nil {
		return err
	}
	return b.coverage()
}

// builtWithout is our server, built with a tag that leaves something out.
func (b *bench) builtWithout(tag string) (serverKind, error) {
	bins := *b.bins
	var err error
	bins.Collector, err = harness.BuildCollector(filepath.Join(b.dir, tag), tag)
	return serverKind{tag, func(b *bench, dir string) (string, *harness.Proc, error) {
		other := *b
		other.bins = &bins
		return ourServer("sync").start(&other, dir)
	}}, err
}

// signingServer is our server with a key: it signs what it has at its end.
func (b *bench) signingServer() (serverKind, error) {
	key, err := b.sealKey()
	return serverKind{"signed", func(b *bench, dir string) (string, *harness.Proc, error) {
		c, err := harness.StartCollector(b.bins, harness.CollectorOptions{Store: dir, Flush: "sync", Args: []string{"--tcp-listen-queue", "1024", "--seal-key", key}})
		if err != nil {
			return "", nil, err
		}
		return c.Addr(), c.Proc, os.RemoveAll(key + ".last") // of the store before
	}}, err
}

// ledgerCost compares with collectors that are built without the ledger, and without the seal.
func (b *bench) ledgerCost() error {
	none, err := b.builtWithout("noledger,noseal")
	if err != nil {
		return err
	}
	ledger, err := b.builtWithout("noseal")
	if err != nil {
		return err
	}
	signed, err := b.signingServer()
	if err != nil {
		return err
	}
	both := ourServer("sync")
	b.printf("## The ledger and the seal\n\n")
	b.printf("The same collector built without both (build tags that only this table uses), with the ledger alone, with both as it is, and with a key, by\n")
	b.printf("turns, each store fresh. CPU until all is indexed, its day closed and another one, and with a key signed; disk of the first day and of the log, of the text. Median of %d.\n\n", b.rounds)
	b.printf("| hosts | records a host | CPU s/M without | ledger | and seal | and signed | disk without | ledger | and seal | and signed |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, l := range []struct{ hosts, records int }{{10, 600_000}, {50, 600_000}, {1000, 1_200_000}, {1000, 400_000}} {
		load := harness.Load{Conns: min(50, l.hosts), Window: 256, Records: l.records * b.scale, Hosts: l.hosts}
		m := b.mediansOf([]serverKind{none, ledger, both, signed}, fmt.Sprintf("%4d hosts", l.hosts), func(k serverKind, round int) (serverRun, error) {
			load.Seed = uint64(round) * 10_000
			return b.closedLoad(k, load)
		})
		x := m[none.name]
		b.printf("| %d | %s | %.2f |", l.hosts, count(float64(l.records*b.scale/l.hosts)), x.cpu)
		for _, k := range []serverKind{ledger, both, signed} {
			b.printf(" %.2f (%+.1f %%) |", m[k.name].cpu, 100*(m[k.name].cpu/x.cpu-1))
		}
		b.printf(" %.2f %% |", 100*x.disk)
		for _, k := range []serverKind{ledger, both, signed} {
			b.printf(" %.2f %% (%+.1f %%) |", 100*m[k.name].disk, 100*(m[k.name].disk/x.disk-1))
		}
		b.printf("\n")
	}
	b.printf("\n")
	return nil
}

// closedLoad is runLoad until the day is closed: what is kept for a day that is written is there once, what is kept of a
// closed one each day.
func (b *bench) closedLoad(k serverKind, load harness.Load) (r serverRun, err error) {
	err = b.withServer(k, func(dir, addr string, p *harness.Proc) error {
		load.Addr, load.Corpus = addr, b.raw
		before, err := p.Usage()
		if err != nil {
			return err
		}
		got, err := load.Run(b.ctx)
		if err != nil {
			return err
		}
		store := filepath.Join(dir, "server")
		acked := got.Acked
		for closed := range 2 { // a day, and another one, small: what is followed of hosts stays with the last one that was closed
			if closed > 0 {
				load.Records, load.Seed = 10*load.Hosts, load.Seed+5000
				more, err := load.Run(b.ctx)
				if err != nil {
					return err
				}
				acked += more.Acked
			}
			if err := p.Signal(syscall.SIGUSR1); err != nil {
				return err
			}
			if !harness.Poll(time.Minute, func() bool { list, err := partitions(store); return err == nil && len(list) > closed+1 }) {
				return errors.New("no other partition is begun")
			}
		}
		if err := p.Terminate(2 * time.Minute); err != nil {
			return err
		}
		after, err := p.Usage()
		if err != nil {
			return err
		}
		disk, err := closedBytes(store)
		r = serverRun{disk: float64(disk) / float64(got.Bytes), rate: got.Rate(), cpu: (after.CPU - before.CPU).Seconds() / float64(acked) * 1e6, p50: got.P50, p99: got.P99, peak: after.PeakRSS}
		return err
	})
	return r, err
}

// coverage asks about a fleet's three months, a partition a day.
func (b *bench) coverage() (err error) {
	dir, err := b.scratch("coverage")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o := harness.CollectorOptions{Store: filepath.Join(dir, "store"), Args: []string{"--max-new-names", "100000"}}
	c, err := harness.StartCollector(b.bins, o)
	if err != nil {
		return err
	}
	defer func() { c.Kill() }()
	begin := time.Now().AddDate(0, 0, -coverDays)
	for day := range coverDays {
		if b.ctx.Err() != nil {
			return b.ctx.Err()
		}
		if err := b.coverDay(c, dir, begin, day); err != nil {
			return err
		}
		if day%30 == 29 {
			progress("%d days stored", day+1)
		}
	}
	if err := c.Terminate(2 * time.Minute); err != nil {
		return err
	}
	if c, err = harness.StartCollector(b.bins, o); err != nil {
		return err
	}
	parts, err := partitions(o.Store)
	if err != nil {
		return err
	}
	before, err := c.Usage()
	if err != nil {
		return err
	}
	var took []time.Duration
	for range coverAsked {
		from := time.Now()
		res, err := c.Command(time.Minute, "coverage", "--format", "json")
		took = append(took, time.Since(from))
		if err != nil || bytes.Count(res.Stdout, []byte("\n")) != coverHosts || !bytes.Contains(res.Stdout, []byte(fmt.Sprintf(`"lost":%d,`, 7*coverDays))) {
			return fmt.Errorf("coverage: %w, %d bytes: %.300s", err, len(res.Stdout), res.Stdout)
		}
	}
	after, err := c.Usage()
	if err != nil {
		return err
	}
	b.printf("`collector coverage` about %s hosts and %d days in %d partitions, each host with a loss a day, whole process, median of %d: **%s**; the collector's\n", count(coverHosts), coverDays, len(parts), coverAsked, short(median(took)))
	b.printf("memory before the first question %s, at most %s.\n\n", mib(before.RSS), mib(after.PeakRSS))
	return nil
}

// coverDay sends a day of all hosts, and begins another partition.
func (b *bench) coverDay(c *harness.Collector, dir string, begin time.Time, day int) error {
	var text bytes.Buffer
	const parts = 4 // statements a day
	at := begin.AddDate(0, 0, day).Unix()
	for h := range coverHosts {
		for i := range parts {
			n := day*parts + i + 1
			from, to := at+int64(i)*86400/parts, at+int64(i+1)*86400/parts
			lost := 0
			if i == 1 {
				fmt.Fprintf(&text, "node=host%04d type=DAEMON_ERR msg=audit(%d.000:%d): op=lost-records cause=kernel records=7 first=%d.000 last=%d.500 res=failed\n", h, from+60, n, from+50, from+60)
			}
			if i >= 1 {
				lost = 7
			}
			fmt.Fprintf(&text, "node=host%04d type=SYSCALL msg=audit(%d.000:%d): arch=c000003e syscall=59 success=yes exit=0 pid=%d comm=\"x\"\n", h, from+100, n, n)
			fmt.Fprintf(&text, "node=host%04d type=DAEMON_RESUME msg=audit(%d.000:%d): op=alive run=%016x n=%d first=%d.000 last=%d.000 boot=b source=kernel registered=yes enabled=1 found=1 records=%d dropped=0 lost=%d unsent=0 res=success\n",
				h, to, n, h+1, n, from, to, day*(2*parts+1)+2*i+1+min(i, 1), 7*day+lost)
		}
	}
	file := filepath.Join(dir, "day.log")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		return err
	}
	res, err := harness.Run(time.Minute, b.bins.Forwarder, "--source", file, "--remote", c.Addr(), "--spool", filepath.Join(dir, "spool"))
	if err != nil || res.Code != 0 {
		return fmt.Errorf("send a day: %w: %s", err, res.Stderr)
	}
	before, err := partitions(c.Store)
	if err != nil {
		return err
	}
	if err := c.Signal(syscall.SIGUSR1); err != nil {
		return err
	}
	if !harness.Poll(time.Minute, func() bool { now, err := partitions(c.Store); return err == nil && len(now) > len(before) }) {
		return fmt.Errorf("no other partition after day %d; the collector's output:\n%s", day, c.Output())
	}
	return nil
}
