package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
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
	rates, cpus := map[string][]float64{}, map[string][]float64{}
	for range b.rounds {
		for _, k := range kinds {
			rate, cpu, err := b.sendStockTo(k, records)
			if err != nil {
				return fmt.Errorf("stock audisp-remote to %s: %w", k.name, err)
			}
			progress("1 stock sender  %-24s %9s records/s  %5.1f CPU s/M", k.name, count(rate), cpu)
			rates[k.name], cpus[k.name] = append(rates[k.name], rate), append(cpus[k.name], cpu)
		}
	}
	for _, k := range kinds {
		rate := median(rates[k.name])
		b.printf("| %s | %s | %s | %.1f |\n", k.name, count(rate), times(rate/median(rates[kinds[0].name])), median(cpus[k.name]))
	}
	b.printf("\n")
	return nil
}

func (b *bench) sendStockTo(k serverKind, records int) (rate, cpu float64, returned error) {
	dir, err := b.scratch("sender")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	addr, p, err := k.start(b, filepath.Join(dir, "server"))
	if err != nil {
		return 0, 0, err
	}
	defer p.Kill()
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return 0, 0, err
	}
	before, err := p.Usage()
	if err != nil {
		return 0, 0, err
	}
	r, err := b.sendStock(filepath.Join(dir, "sender"), int(to.Port()), records)
	if err != nil {
		return 0, 0, fmt.Errorf("%w; its output:\n%s", err, p.Output())
	}
	after, err := p.Usage()
	if err != nil {
		return 0, 0, err
	}
	return r.rate, (after.CPU - before.CPU).Seconds() / float64(records) * 1e6, nil
}
