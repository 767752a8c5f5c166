package main

import (
	"fmt"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// paced compares servers under a fleet of stock senders at work: each sends a record
// now and then, and waits for its ACK.
func (b *bench) paced() error {
	const lasts = 10 * time.Second
	b.printf("## A fleet at work\n\n")
	b.printf("Stop-and-wait senders, each with a record at random times, for %v. Stock auditd as shipped, ours with `--flush sync`. CPU is the server's\n", lasts)
	b.printf("while they send, wake-ups are those of all its threads; no sender at all: connected to by nobody. Median of %d.\n\n", b.rounds)
	b.printf("| | senders | records/s | stock CPU µs a record | of a core | ours | of a core | ratio | stock p50 / p99 | ours p50 / p99 | stock wake-ups/s | ours |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	kinds := []serverKind{stockServer("incremental_async"), ourServer("sync")}
	if b.against != "" {
		other, err := b.otherServer()
		if err != nil {
			return err
		}
		kinds = append(kinds, other)
	}
	for _, s := range []struct{ conns, rate int }{{100, 100}, {100, 1000}, {1000, 1000}, {1000, 5000}, {1000, 10000}} {
		if b.load != "" && b.load != fmt.Sprintf("%dx%d", s.conns, s.rate) {
			continue
		}
		m := b.mediansOf(kinds, fmt.Sprintf("%d senders, %d/s", s.conns, s.rate), func(k serverKind, round int) (serverRun, error) {
			return b.runPaced(k, harness.Paced{Conns: s.conns, Rate: s.rate, For: lasts, Corpus: b.raw, Seed: uint64(round)})
		})
		st := m[kinds[0].name]
		for _, k := range kinds[1:] {
			us := m[k.name]
			b.printf("| %s | %s | %s | %.1f | %.1f %% | %.1f | %.1f %% | %s | %s / %s | %s / %s | %s | %s |\n", k.name, count(s.conns), count(us.rate), st.cpu, st.cpu*st.rate/1e4,
				us.cpu, us.cpu*us.rate/1e4, times(us.cpu/st.cpu), short(st.p50), short(st.p99), short(us.p50), short(us.p99), count(st.wakes), count(us.wakes))
		}
	}
	if b.load != "" {
		return nil
	}
	m := b.mediansOf(kinds, "nobody", func(k serverKind, _ int) (serverRun, error) { return b.runIdle(k, lasts) })
	for _, k := range kinds[1:] {
		b.printf("| %s | 0 | 0 | | | | | | | | %s | %s |\n", k.name, count(m[kinds[0].name].wakes), count(m[k.name].wakes))
	}
	b.printf("\n")
	return nil
}

// runIdle looks at a server that nobody connects to, once it has started.
func (b *bench) runIdle(k serverKind, lasts time.Duration) (r serverRun, err error) {
	err = b.withServer(k, func(_, _ string, p *harness.Proc) error {
		time.Sleep(5 * time.Second)
		before, err := p.Usage()
		if err != nil {
			return err
		}
		time.Sleep(lasts)
		after, err := p.Usage()
		if err != nil {
			return err
		}
		r.wakes = float64(after.WakeUps-before.WakeUps) / lasts.Seconds()
		return p.Terminate(time.Minute)
	})
	return r, err
}

func (b *bench) runPaced(k serverKind, load harness.Paced) (r serverRun, err error) {
	err = b.withServer(k, func(_, addr string, p *harness.Proc) error {
		load.Addr = addr
		send, err := load.Connect(b.ctx)
		if err != nil {
			return err
		}
		before, err := p.Usage()
		if err != nil {
			return err
		}
		got, err := send()
		if err != nil {
			return err
		}
		after, err := p.Usage()
		if err != nil {
			return err
		}
		r = serverRun{
			rate: got.Rate(), cpu: (after.CPU - before.CPU).Seconds() / float64(got.Acked) * 1e6,
			p50: got.P50, p99: got.P99, peak: after.PeakRSS, wakes: float64(after.WakeUps-before.WakeUps) / load.For.Seconds(),
		}
		return p.Terminate(time.Minute)
	})
	return r, err
}
