package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

const (
	compactSize = 1.0 // GB that wait for compaction, unless -size says
	compactDays = 4
)

// loadBeside is how a load fared, without a compaction and beside one.
type loadBeside struct {
	rate, cpu float64
	p99       time.Duration
}

// compaction shows how much a load suffers while the collector compacts. What waits for it is an import: an import may be
// compacted at once, and what has come over the network only when its day is over.
func (b *bench) compaction() error {
	if res, err := harness.Run(10*time.Second, b.bins.Collector, "import", "--help"); err != nil || !bytes.Contains(res.Stdout, []byte("--dry-run")) {
		return fmt.Errorf("this collector has no import")
	}
	dir, err := b.scratch("compaction")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	store, size, err := b.waiting(dir)
	if err != nil {
		return err
	}
	b.printf("## Ingest beside compaction\n\nThe load of 50 senders × 256 in flight with `--flush sync`, %s records at a time, on a collector that has %s of text to compact, which it does all along or not (`compact`),\nat most 64 MB/s. Pairs of runs one after the other, the first of a pair by turns without and with; %d pairs. A pair's ratio says more than all runs' medians: what else the machine does changes between pairs.\n\n", count(b.compactLoad()), mib(size), b.rounds)
	b.printf("| pair | without, records/s | with | ratio | CPU s/M without | with, compaction's included | p99 without | with |\n|---|---|---|---|---|---|---|---|\n")
	var ratios []float64
	for pair := range b.rounds {
		run := filepath.Join(dir, "run")
		if err := copyStore(store, run); err != nil {
			return err
		}
		syscall.Sync() // else the copy is written beside the first run
		var r [2]loadBeside
		for i := range 2 {
			on := i ^ pair&1 // without first, then with first
			if r[on], err = b.loadBeside(run, on == 1, 2*pair+i); err != nil {
				return errors.Join(err, os.RemoveAll(run))
			}
			progress("pair %d, compacting %v: %s records/s, p99 %s", pair+1, on == 1, count(r[on].rate), short(r[on].p99))
		}
		if err := os.RemoveAll(run); err != nil {
			return err
		}
		ratios = append(ratios, r[1].rate/r[0].rate)
		b.printf("| %d | %s | %s | %s | %.2f | %.2f | %s | %s |\n", pair+1, count(r[0].rate), count(r[1].rate), times(ratios[pair]), r[0].cpu, r[1].cpu, short(r[0].p99), short(r[1].p99))
	}
	slices.Sort(ratios)
	b.printf("\nRatio: median %s, the middle half %s to %s, all %s to %s.\n\n", times(median(ratios)), times(ratios[len(ratios)/4]), times(ratios[len(ratios)*3/4]), times(ratios[0]), times(ratios[len(ratios)-1]))
	return nil
}

// compactLoad is how many records a run sends.
func (b *bench) compactLoad() int { return 1_000_000 * b.scale }

// waiting makes a store with an import that is to be compacted.
func (b *bench) waiting(dir string) (store string, size int64, _ error) {
	store = filepath.Join(dir, "store")
	c, err := harness.StartCollector(b.bins, harness.CollectorOptions{Store: store})
	if err != nil {
		return "", 0, err
	}
	if err := c.Terminate(time.Minute); err != nil {
		return "", 0, err
	}
	each, nodes := compactSize*float64(gigabyte)/compactDays, []string{}
	if b.given["size"] {
		each = b.size * float64(gigabyte) / compactDays
	}
	for i := range dayHosts {
		nodes = append(nodes, fmt.Sprintf("host%04d", i))
	}
	logs := filepath.Join(dir, "logs")
	for day := range compactDays {
		var text bytes.Buffer
		made, err := b.raw.Write(&text, harness.Make{
			Seed: uint64(day), Bytes: int64(each), Nodes: nodes, Start: time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, day-10),
			Step: time.Duration(float64(23*time.Hour) / (each / eventText)),
		})
		if err != nil {
			return "", 0, err
		}
		size += made.Bytes
		if err := writeOld(filepath.Join(logs, fmt.Sprintf("audit.log.%d", compactDays-day)), text.Bytes()); err != nil {
			return "", 0, err
		}
	}
	res, err := harness.Run(10*time.Minute, b.bins.Collector, "import", "--store", store, logs)
	if err != nil || res.Code != 0 {
		return "", 0, fmt.Errorf("import: %w: exit %d: %s", err, res.Code, res.Stderr)
	}
	return store, size, os.RemoveAll(logs)
}

// loadBeside runs the load on a collector with the store.
func (b *bench) loadBeside(dir string, compact bool, round int) (r loadBeside, _ error) {
	load := harness.Load{Conns: dayConns, Window: dayWindow, Records: b.compactLoad(), Corpus: b.raw, Seed: uint64(1000 * round)}
	args := []string{"--tcp-listen-queue", "1024", "--compact-import-after", "0s", fmt.Sprintf("--compact=%v", compact)}
	c, err := harness.StartCollector(b.bins, harness.CollectorOptions{Store: dir, Flush: "sync", Args: args})
	if err != nil {
		return r, err
	}
	defer c.Kill()
	load.Addr = c.Addr()
	before, err := c.Usage()
	if err != nil {
		return r, err
	}
	got, err := load.Run(b.ctx)
	if err != nil {
		return r, err
	}
	after, err := c.Usage()
	if err != nil {
		return r, err
	}
	r = loadBeside{rate: got.Rate(), cpu: (after.CPU - before.CPU).Seconds() / float64(got.Acked) * 1e6, p99: got.P99}
	if compact {
		left, err := c.Metric("auditfleet_collector_compaction_waiting_partitions")
		if err != nil {
			return r, err
		}
		if left == 0 {
			return r, fmt.Errorf("all was compacted before the load was over: a larger -size is needed")
		}
	}
	return r, nil
}
