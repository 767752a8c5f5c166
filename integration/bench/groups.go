package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// groupsOnly measures groups on a store of its own.
func (b *bench) groupsOnly() (returned error) {
	s, err := b.makeSearched()
	defer os.Remove(s.all)
	defer os.Remove(s.file)
	if err != nil {
		return err
	}
	store, err := b.scratch("store")
	if err != nil {
		return err
	}
	defer os.RemoveAll(store)
	c, err := harness.StartCollector(b.bins, harness.CollectorOptions{Store: store})
	if err != nil {
		return err
	}
	defer c.Kill()
	if err := b.fill(c, s.all, s.made); err != nil {
		return err
	}
	b.printf("## Counts\n\n%s records, %s of text, of %d hosts.\n", count(s.made.Records), mib(s.made.Bytes), len(s.hosts))
	return b.groups(store)
}

// groups measures reports that the stock tools have not: by a field and by time.
func (b *bench) groups(store string) error {
	b.printf("\nCounts by a field or by time, which the stock tools have not. By two fields the collector reads all events.\n")
	b.printf("\n| report | took | memory |\n|---|---|---|\n")
	for _, args := range [][]string{
		{"--by", "exe"}, {"--by", "auid", "-i"}, {"--by", "node"}, {"--by", "type"}, {"--every", "1d"}, {"--every", "1h"}, {"--every", "1m"},
		{"--by", "key"}, {"--by", "exe", "--every", "1h"}, {"--by", "exe,success"},
	} {
		m, err := b.runs(10*time.Minute, false, append([]string{"report", "--store", store}, args...)...)
		if err != nil {
			return fmt.Errorf("report %s: %w", strings.Join(args, " "), err)
		}
		progress("report %-20s %s", strings.Join(args, " "), short(m.Wall))
		b.printf("| `%s` | %s | %s |\n", strings.Join(args, " "), short(m.Wall), mib(m.Peak))
	}
	return nil
}
