package main

import (
	"net/netip"
	"path/filepath"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// stopAndWait shows how near the loads of one record in flight, which are all
// system calls, come to what is possible on the machine at all.
func (b *bench) stopAndWait() error {
	b.printf("What bounds senders of one record in flight: a bare loop in one thread (epoll, read, append, one sync for all that arrived, answer), which\n")
	b.printf("parses, recognises and indexes nothing, under the same load. CPU is the server's, a record.\n\n")
	b.printf("| load | stock, unsynced | bare, synced | ours, synced | bare to stock | ours to bare | stock CPU µs | bare | ours |\n|---|---|---|---|---|---|---|---|---|\n")
	stock, bare, ours := stockServer("incremental_async"), bareServer(), ourServer("sync")
	for _, s := range []shape{{1, 1, 5_000}, {50, 1, 50_000}, {200, 1, 50_000}} {
		s.records *= b.scale
		m := b.medians([]serverKind{stock, bare, ours}, s)
		st, ba, us := m[stock.name], m[bare.name], m[ours.name]
		b.printf("| %d × %d | %s | %s | %s | %s | %s | %.1f | %.1f | %.1f |\n", s.conns, s.window, count(st.rate), count(ba.rate), count(us.rate),
			times(ba.rate/st.rate), times(us.rate/ba.rate), st.cpu, ba.cpu, us.cpu)
	}
	b.printf("\n")
	return b.stockSender([]serverKind{stock, ours, ourServer("incremental_async")})
}

// stockSender has one real audisp-remote send to each kind of server.
func (b *bench) stockSender(kinds []serverKind) error {
	records := 20_000 * b.scale
	b.printf("One real stock audisp-remote sends %s records, from the start of its process to its end. Median of %d.\n\n", count(records), b.rounds)
	b.printf("| server | records/s | ratio | server CPU µs a record |\n|---|---|---|---|\n")
	m := b.mediansOf(kinds, "1 stock sender", func(k serverKind, _ int) (serverRun, error) { return b.sendStockTo(k, records) })
	for _, k := range kinds {
		b.printf("| %s | %s | %s | %.1f |\n", k.name, count(m[k.name].rate), times(m[k.name].rate/m[kinds[0].name].rate), m[k.name].cpu)
	}
	b.printf("\n")
	return nil
}

func (b *bench) sendStockTo(k serverKind, records int) (r serverRun, err error) {
	err = b.withServer(k, func(dir, addr string, p *harness.Proc) error {
		to, err := netip.ParseAddrPort(addr)
		if err != nil {
			return err
		}
		before, err := p.Usage()
		if err != nil {
			return err
		}
		sent, err := b.sendStock(filepath.Join(dir, "sender"), int(to.Port()), records)
		if err != nil {
			return err
		}
		after, err := p.Usage()
		if err != nil {
			return err
		}
		r = serverRun{rate: sent.rate, cpu: (after.CPU - before.CPU).Seconds() / float64(records) * 1e6, peak: after.PeakRSS}
		return nil
	})
	return r, err
}
