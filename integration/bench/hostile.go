package main

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

const (
	// hostileBound is what the good senders' 99th percentile must keep.
	hostileBound = 250 * time.Millisecond
	hostileGood  = 20  // senders that do as they should
	hostileRate  = 200 // records/s of theirs
	hostileFor   = 8 * time.Second
)

// hostileRun is what good senders saw during an attack.
type hostileRun struct {
	p50, p99, max   time.Duration
	acked           int
	writes, renewed float64 // of the attack, a second
	cpu             float64 // cores of the server's
	peak            int64
}

// hostile shows what senders that do as they should see while thousands attack.
func (b *bench) hostile() error {
	if err := harness.RaiseDescriptors(uint64(b.attackers) + 4096); err != nil {
		return err
	}
	b.printf("## Hostile peers\n\n")
	b.printf("%d stop-and-wait senders with %d records/s in all, while %s connections, each from an address of its own, attack as fast as one\n", hostileGood, hostileRate, count(b.attackers))
	b.printf("core lets them, for %v. ACK is from a record's write to its acknowledgement, synced; bound: p99 ≤ %s. CPU is the collector's.\n\n", hostileFor, short(hostileBound))
	b.printf("| attack | p50 | p99 | max | bound | kept | good records | attack writes/s | connects/s | cores | peak RSS |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, attack := range append([]string{""}, b.attacks...) {
		r, err := b.runHostile(attack)
		if b.ctx.Err() != nil {
			return b.ctx.Err()
		}
		if attack == "" {
			attack = "none"
		}
		if err != nil {
			b.fail("%s: %v", attack, err)
			continue
		}
		kept := "yes"
		if r.p99 > hostileBound {
			kept = "NO"
		}
		b.printf("| %s | %s | %s | %s | %s | %s | %s | %s | %s | %.2f | %s |\n", attack, short(r.p50), short(r.p99), short(r.max), short(hostileBound), kept,
			count(r.acked), count(r.writes), count(r.renewed), r.cpu, mib(r.peak))
	}
	b.printf("\n")
	return nil
}

func (b *bench) runHostile(attack string) (r hostileRun, err error) {
	err = b.withServer(ourServer("sync"), func(_, addr string, p *harness.Proc) error {
		to, err := netip.ParseAddrPort(addr)
		if err != nil {
			return err
		}
		good := harness.Paced{Addr: addr, Conns: hostileGood, Rate: hostileRate, For: hostileFor, Corpus: b.raw}
		send, err := good.Connect(b.ctx)
		if err != nil {
			return err
		}
		evil := &harness.Hostile{Addr: to, Conns: b.attackers, Attack: attack}
		stop, stopped := make(chan struct{}), make(chan struct{})
		if attack != "" {
			if err := evil.Connect(); err != nil {
				return err
			}
			go func() { defer close(stopped); evil.Run(stop) }()
		} else {
			close(stopped)
		}
		time.Sleep(time.Second) // the attack is under way
		before, err := p.Usage()
		if err != nil {
			return err
		}
		w0, n0 := evil.Did()
		begin := time.Now()
		got, err := send()
		took := time.Since(begin).Seconds()
		w1, n1 := evil.Did()
		after, uerr := p.Usage()
		close(stop)
		<-stopped
		evil.Close()
		if err != nil || uerr != nil {
			return fmt.Errorf("good senders: %w %w", err, uerr)
		}
		r = hostileRun{
			p50: got.P50, p99: got.P99, max: got.Max, acked: got.Acked, peak: after.PeakRSS,
			writes: float64(w1-w0) / took, renewed: float64(n1-n0) / took, cpu: (after.CPU - before.CPU).Seconds() / took,
		}
		return p.Terminate(2 * time.Minute)
	})
	return r, err
}
