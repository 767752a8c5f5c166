package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// whole is what a tool makes of all records there are.
type whole struct {
	stock []string // program and options, without -if FILE
	ours  []string // subcommand and options
	store bool     // ours asks the store; otherwise it reads the same file
}

// wholes are full scans of the file, and reports from the store.
var wholes = []whole{
	{[]string{"ausearch", "--raw"}, []string{"search", "--raw"}, false},
	{[]string{"ausearch", "-i"}, []string{"search", "-i"}, false},
	{[]string{"ausearch", "--format", "csv"}, []string{"search", "--format", "csv"}, false},
	{[]string{"ausearch", "--format", "text"}, []string{"search", "--format", "text"}, false},
	{[]string{"ausearch", "-k", rareKey, "-i"}, []string{"search", "-k", rareKey, "-i"}, false},
	{[]string{"aureport", "-x", "-i"}, []string{"report", "-x", "-i"}, false},
	{[]string{"aureport", "--summary"}, []string{"report", "--summary"}, true},
	{[]string{"aureport", "-k", "--summary"}, []string{"report", "-k", "--summary"}, true},
	{[]string{"aureport", "-x", "--summary"}, []string{"report", "-x", "--summary"}, true},
	{[]string{"aureport", "-f", "--summary"}, []string{"report", "-f", "--summary"}, true},
	{[]string{"aureport", "-u", "--summary"}, []string{"report", "-u", "--summary"}, true},
	{[]string{"aureport", "-s", "--summary"}, []string{"report", "-s", "--summary"}, true},
	{[]string{"aureport", "-e", "--summary"}, []string{"report", "-e", "--summary"}, true},
	{[]string{"aureport", "-au"}, []string{"report", "-au"}, true},
}

// scans compares what has to look at everything; the stock tools run once.
func (b *bench) scans(c *harness.Collector, file string) {
	b.printf("\nEverything at once. With `-if` ours reads the same file; reports are of the store.\n\n")
	b.printf("| stock | ours | stock took | ours | ratio | stock CPU | ours |\n|---|---|---|---|---|---|---|\n")
	for _, w := range wholes {
		if b.ctx.Err() != nil {
			return
		}
		if err := b.scan(c, file, w); err != nil {
			b.fail("%s: %v", strings.Join(w.ours, " "), err)
		}
	}
	b.printf("\n")
}

func (b *bench) scan(c *harness.Collector, file string, w whole) error {
	const limit = 10 * time.Minute
	stock, err := harness.Run(limit, append([]string{"/sbin/" + w.stock[0], "-if", file}, w.stock[1:]...)...)
	if err != nil {
		return err
	}
	args, words := append([]string{"-if", file}, w.ours[1:]...), "-if"
	if w.store {
		args, words = append([]string{"--store", c.Store}, w.ours[1:]...), "store"
	}
	var best *harness.Result
	var walls []time.Duration
	for range b.rounds {
		r, err := harness.Run(limit, append([]string{b.bins.Collector, w.ours[0]}, args...)...)
		if err != nil {
			return err
		}
		if r.Code != stock.Code {
			return fmt.Errorf("exit %d, stock %d: %s", r.Code, stock.Code, r.Stderr)
		}
		best, walls = r, append(walls, r.Wall)
	}
	o := median(walls)
	progress("whole %-40s stock %s  ours %s", strings.Join(w.ours, " "), short(stock.Wall), short(o))
	b.printf("| `%s` | `%s` (%s) | %s | %s | %s | %s | %s |\n", strings.Join(w.stock, " "), strings.Join(w.ours, " "), words, short(stock.Wall), short(o),
		times(float64(stock.Wall)/float64(o)), short(stock.CPU), short(best.CPU))
	return nil
}
