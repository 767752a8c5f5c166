package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/proto/remote"
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
	writes, renewed float64       // of the attack, a second
	cpu             float64       // cores of the server's
	evil            float64       // and of the attack's
	enter, entered  time.Duration // median and most of newcomers: from their connect to an ACK
	peak            int64
}

// hostile shows what senders that do as they should see while thousands attack.
func (b *bench) hostile() error {
	if err := harness.RaiseDescriptors(uint64(b.attackers) + 4096); err != nil {
		return err
	}
	b.printf("## Hostile peers\n\n")
	b.printf("%d stop-and-wait senders with %d records/s in all, while %s connections, each from an address of its own, attack as fast as one\n", hostileGood, hostileRate, count(b.attackers))
	b.printf("core and a gigabit let them (nice %d), for %v. ACK is from a record's write to its acknowledgement, synced; bound: p99 ≤ %s.\n\n", attackNice, hostileFor, short(hostileBound))
	b.printf("| attack | p50 | p99 | max | bound | kept | newcomers, median | max | good records | attack writes/s | connects/s | attack cores | collector cores | peak RSS |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
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
		b.printf("| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %.2f | %.2f | %s |\n", attack, short(r.p50), short(r.p99), short(r.max), short(hostileBound), kept, short(r.enter), short(r.entered),
			count(r.acked), count(r.writes), count(r.renewed), r.evil, r.cpu, mib(r.peak))
	}
	b.printf("\n")
	return nil
}

func (b *bench) runHostile(attack string) (r hostileRun, err error) {
	err = b.withServer(ourServer("sync"), func(_, addr string, p *harness.Proc) error {
		good := harness.Paced{Addr: addr, Conns: hostileGood, Rate: hostileRate, For: hostileFor, Corpus: b.raw}
		send, err := good.Connect(b.ctx)
		if err != nil {
			return err
		}
		state := func() (attackState, error) { return attackState{}, nil }
		if attack != "" {
			evil, err := b.startAttack(attack, addr)
			if err != nil {
				return err
			}
			defer func() { _ = evil.end() }() // the figures are taken
			state = evil.state
		}
		time.Sleep(time.Second) // the attack is under way
		r, err = measureHostile(p, addr, state, send)
		return err
	})
	return r, err
}

// measureHostile takes the figures while good senders send.
func measureHostile(p *harness.Proc, addr string, state func() (attackState, error), send func() (*harness.LoadResult, error)) (r hostileRun, err error) {
	before, err := p.Usage()
	if err != nil {
		return r, err
	}
	was, err := state()
	if err != nil {
		return r, fmt.Errorf("the attack: %w", err)
	}
	begin := time.Now()
	newcomers := make(chan []time.Duration, 1)
	go func() { newcomers <- enter(addr, hostileFor) }()
	got, serr := send()
	took := time.Since(begin).Seconds()
	is, err := state()
	after, uerr := p.Usage()
	if serr != nil || err != nil || uerr != nil {
		return r, errors.Join(serr, err, uerr)
	}
	entered := <-newcomers
	slices.Sort(entered)
	return hostileRun{
		enter: entered[len(entered)/2], entered: entered[len(entered)-1],
		p50: got.P50, p99: got.P99, max: got.Max, acked: got.Acked, peak: after.PeakRSS,
		writes: float64(is.writes-was.writes) / took, renewed: float64(is.renewed-was.renewed) / took,
		cpu: (after.CPU - before.CPU).Seconds() / took, evil: (is.cpu - was.cpu).Seconds() / took,
	}, nil
}

// newcomerEvery is how often a sender comes that was not there before.
const newcomerEvery = 200 * time.Millisecond

// enter has newcomers come, one after the other, and says how long each took from its
// connect to the ACK of its record: 30 s where it has none.
func enter(addr string, during time.Duration) (took []time.Duration) {
	const limit = 30 * time.Second
	record := remote.Append(nil, remote.Message, 1, []byte("node=new type=USER_CMD msg=audit(1795336201.121:402): pid=1 uid=0 res=success"))
	ack := make([]byte, remote.HeaderSize)
	for i, began := 0, time.Now(); time.Since(began) < during; i++ {
		start := time.Now()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 9, 0, byte(1+i%250))}, Timeout: limit}
		ok := false
		if c, err := d.Dial("tcp", addr); err == nil {
			if _, err = c.Write(record); err == nil && c.SetReadDeadline(start.Add(limit)) == nil {
				_, err = io.ReadFull(c, ack)
			}
			ok = err == nil
			_ = c.Close()
		}
		if took = append(took, time.Since(start)); !ok {
			took[len(took)-1] = limit
		}
		time.Sleep(newcomerEvery - time.Since(start))
	}
	return took
}
