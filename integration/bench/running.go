package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// running is how a day fared that is not over.
type running struct {
	dayMark
	records         int
	rate            float64
	cpu, then, merg float64 // seconds a million records: until all was acknowledged, until nothing waited to be merged, and of that by the merging's own clock
}

// runningDay shows what a search of the day that runs costs where it stays as it comes, and where it is merged in tiers, and what that takes.
func (b *bench) runningDay() error {
	dir, err := b.scratch("running")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b.askFew()
	var all []*running
	for _, args := range [][]string{{"--compact-groups", "0"}, {}} {
		s := &dayStore{bench: b, dir: filepath.Join(dir, fmt.Sprint(len(all)), "store"), made: &daysMade{Days: 1, Hosts: dayHosts}, args: append([]string{"--compact"}, args...), runs: true}
		if b.given["hosts"] {
			s.made.Hosts = b.hosts
		}
		s.made.First = time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -1)
		r, err := s.running()
		if err != nil {
			return err
		}
		all = append(all, r)
	}
	came, merged := all[0], all[1]
	b.printf("## The running day\n\n%s of text, %s records; a collector that was started anew, files cached, median of what its socket answers; CPU in brackets.\n\n", mib(merged.bytes), count(float64(merged.records)))
	b.printf("| | as it comes | merged |\n|---|---|---|\n")
	row := func(what string, cell func(r *running) string) {
		b.printf("| %s | %s | %s |\n", what, cell(came), cell(merged))
	}
	row("records/s in", func(r *running) string { return count(r.rate) })
	row("CPU s/M until all is acknowledged", func(r *running) string { return fmt.Sprintf("%.2f", r.cpu) })
	row("CPU s/M until nothing waits", func(r *running) string { return fmt.Sprintf("%.2f", r.then) })
	row("merging, s/M", func(r *running) string { return fmt.Sprintf("%.2f", r.merg) })
	row("disk, of the text", func(r *running) string { return fmt.Sprintf("%.2f %%", 100*float64(r.disk)/float64(r.bytes)) })
	row("files of days", func(r *running) string { return fmt.Sprint(r.parts) })
	for i, a := range merged.asked {
		row(a.what, func(r *running) string { return fmt.Sprintf("%s (%s)", short(r.asked[i].wall), short(r.asked[i].cpu)) })
	}
	b.printf("\n")
	return nil
}

// running fills a day and asks it.
func (s *dayStore) running() (*running, error) {
	size := int64(daySize * float64(gigabyte))
	if s.given["size"] {
		size = int64(s.size * float64(gigabyte))
	}
	c, err := s.collector()
	if err != nil {
		return nil, err
	}
	defer c.Kill()
	begun := time.Now()
	if err := s.day(c, 0, size, true); err != nil {
		return nil, fmt.Errorf("%w; its output:\n%s", err, c.Output())
	}
	r := &running{records: s.made.Records, rate: float64(s.made.Records) / time.Since(begun).Seconds()}
	million := float64(s.made.Records) / 1e6
	used, err := c.Usage()
	if err != nil {
		return nil, err
	}
	r.cpu = used.CPU.Seconds() / million
	progress("%s records, %s records/s, CPU %.2f s/M", count(float64(r.records)), count(r.rate), r.cpu)
	for done, still := -1.0, 0; still < 70; still++ { // it looks each minute
		n, err := c.Metric("auditfleet_collector_compactions_total")
		if err != nil {
			return nil, err
		}
		waits, err := c.Metric("auditfleet_collector_compaction_waiting_partitions")
		if err != nil {
			return nil, err
		}
		if n != done || waits > 0 {
			done, still = n, 0
		}
		if s.args[len(s.args)-1] == "0" {
			break
		}
		select {
		case <-s.ctx.Done():
			return nil, s.ctx.Err()
		case <-time.After(time.Second):
		}
	}
	if used, err = c.Usage(); err != nil {
		return nil, err
	}
	r.then = used.CPU.Seconds() / million
	took, err := c.Metric("auditfleet_collector_compaction_seconds_total")
	if err != nil {
		return nil, err
	}
	r.merg = took / million
	progress("merged: CPU %.2f s/M", r.then)
	if err := c.Terminate(2 * time.Minute); err != nil {
		return nil, err
	}
	s.args = []string{"--compact=false"} // while it is asked
	m, err := s.questions()
	if err != nil {
		return nil, err
	}
	r.dayMark = *m
	progress("%d files, %s", r.parts, mib(r.disk))
	return r, nil
}
