package main

import (
	"bytes"
	"os"
	"path/filepath"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

const oneWay = 25 * time.Millisecond // a round trip of 50 ms

// linkRun is records over the slow link and what the sender used.
type linkRun struct {
	rate float64
	cpu  float64 // sender's CPU seconds a million records
	peak int64
}

// link compares senders over a link with a round trip of 50 ms.
func (b *bench) link() error {
	const stockRecords = 100
	records := 100_000 * b.scale
	b.printf("## Sender over a round trip of 50 ms\n\n")
	b.printf("From the start of the process to its end, all acknowledged. Stock audisp-remote reads %d records from a pipe; ours %s from a FILE,\n", stockRecords, count(records))
	b.printf("through its durable spool. Median of %d.\n\n| sender → server | records/s | ratio | CPU s/M | RSS |\n|---|---|---|---|---|\n", b.rounds)
	file := filepath.Join(b.dir, "link.log")
	if err := b.makeLog(file, harness.Make{Seed: 5, Records: records, Nodes: []string{"far"}, Start: time.Unix(1763600000, 0), Step: time.Millisecond}); err != nil {
		return err
	}
	defer os.Remove(file)
	rows := []struct {
		name   string
		server serverKind
		send   func(dir, addr string, port int) (linkRun, error)
	}{
		{"stock → stock", stockServer("incremental_async"), func(dir, _ string, port int) (linkRun, error) { return b.sendStock(dir, port, stockRecords) }},
		{"ours → stock", stockServer("incremental_async"), func(dir, addr string, _ int) (linkRun, error) { return b.sendOurs(dir, addr, file, records) }},
		{"ours, `--window 256` → stock", stockServer("incremental_async"), func(dir, addr string, _ int) (linkRun, error) {
			return b.sendOurs(dir, addr, file, records, "--window", "256")
		}},
		{"stock → ours", ourServer("sync"), func(dir, _ string, port int) (linkRun, error) { return b.sendStock(dir, port, stockRecords) }},
		{"ours → ours", ourServer("sync"), func(dir, addr string, _ int) (linkRun, error) { return b.sendOurs(dir, addr, file, records) }},
		{"ours, `--window 256` → ours", ourServer("sync"), func(dir, addr string, _ int) (linkRun, error) {
			return b.sendOurs(dir, addr, file, records, "--window", "256")
		}},
	}
	base := 0.0
	for _, row := range rows {
		var rate, cpu []float64
		var peak []int64
		for range b.rounds {
			r, err := b.overLink(row.server, row.send)
			if err != nil {
				b.fail("%s over 50 ms: %v", row.name, err)
				continue
			}
			progress("50 ms: %-30s %9s records/s  %5.1f CPU s/M  peak %s", row.name, count(r.rate), r.cpu, mib(r.peak))
			rate, cpu, peak = append(rate, r.rate), append(cpu, r.cpu), append(peak, r.peak)
		}
		if len(rate) == 0 {
			continue
		}
		if base == 0 {
			base = median(rate)
		}
		b.printf("| %s | %s | %s | %.1f | %s |\n", row.name, count(median(rate)), times(median(rate)/base), median(cpu), mib(median(peak)))
	}
	b.printf("\n")
	return nil
}

func (b *bench) overLink(k serverKind, send func(dir, addr string, port int) (linkRun, error)) (r linkRun, err error) {
	err = b.withServer(k, func(dir, addr string, _ *harness.Proc) error {
		proxy, err := harness.NewProxy(addr, oneWay)
		if err != nil {
			return err
		}
		defer proxy.Close()
		r, err = send(filepath.Join(dir, "sender"), proxy.Addr(), proxy.Port())
		return err
	})
	return r, err
}

func (b *bench) sendStock(dir string, port, records int) (linkRun, error) {
	var text bytes.Buffer
	if _, err := b.raw.Write(&text, harness.Make{Seed: 6, Records: records, Nodes: []string{"far"}, Start: time.Unix(1763600000, 0), Step: time.Millisecond}); err != nil {
		return linkRun{}, err
	}
	n := bytes.Count(text.Bytes(), []byte("\n"))
	begin := time.Now()
	p, err := harness.StartAudispRemote(dir, port, &text, nil)
	if err != nil {
		return linkRun{}, err
	}
	return finish(p, begin, n)
}

func (b *bench) sendOurs(dir, addr, file string, records int, args ...string) (linkRun, error) {
	begin := time.Now()
	p, err := harness.StartForwarder(b.bins, dir, addr, file, nil, append([]string{"--drain-timeout", "3m"}, args...)...)
	if err != nil {
		return linkRun{}, err
	}
	return finish(p, begin, records)
}

// finish waits for the sender's end. Its memory is looked at while it runs: what
// the kernel says of an ended child counts its parent's from before the exec.
func finish(p *harness.Proc, begin time.Time, records int) (linkRun, error) {
	var peak int64
	for !p.Exited() && time.Since(begin) < 4*time.Minute {
		if u, err := p.Usage(); err == nil && !p.Exited() {
			peak = max(peak, u.PeakRSS)
		}
		select {
		case <-p.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	wall := time.Since(begin)
	if err := p.Wait(time.Second); err != nil {
		return linkRun{}, err
	}
	u, err := p.Usage()
	if err != nil {
		return linkRun{}, err
	}
	return linkRun{float64(records) / wall.Seconds(), u.CPU.Seconds() / float64(records) * 1e6, peak}, nil
}

func (b *bench) makeLog(file string, m harness.Make) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := b.raw.Write(f, m); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
