package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// otherServer is the collector of -against.
func (b *bench) otherServer() (other serverKind, _ error) {
	if b.against == "" {
		return other, errors.New("-against FOLDER, with the other collector, is missing")
	}
	bins := *b.bins
	bins.Collector = filepath.Join(b.against, "collector")
	other = ourServer("sync")
	other.name = "the other"
	start := other.start
	other.start = func(b *bench, dir string) (string, *harness.Proc, error) {
		its := *b
		its.bins = &bins
		return start(&its, dir)
	}
	return other, nil
}

// versions compares this collector with one of another folder, by turns: what a change
// costs senders that do as they should.
func (b *bench) versions() error {
	other, err := b.otherServer()
	if err != nil {
		return err
	}
	ours := ourServer("sync")
	b.printf("## This version and another\n\nCollectors with `--flush sync`, by turns, median of %d.\n\n", b.rounds)
	b.printf("| load | the other's records/s | this one's | ratio | the other's CPU s/M | this one's | ratio | p50 / p99 | p50 / p99 |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, s := range []shape{{1, 1, 8_000}, {1, 256, 400_000}, {50, 1, 60_000}, {200, 1, 60_000}, {50, 256, 1_000_000}, {1000, 1, 60_000}} {
		if b.load != "" && b.load != fmt.Sprintf("%dx%d", s.conns, s.window) {
			continue
		}
		s.records *= b.scale
		m := b.medians([]serverKind{other, ours}, s)
		o, u := m[other.name], m[ours.name]
		b.printf("| %d × %d | %s | %s | %.2f × | %.1f | %.1f | %.2f × | %s / %s | %s / %s |\n", s.conns, s.window,
			count(o.rate), count(u.rate), u.rate/o.rate, o.cpu, u.cpu, u.cpu/o.cpu, short(o.p50), short(o.p99), short(u.p50), short(u.p99))
	}
	b.printf("\n")
	return nil
}
