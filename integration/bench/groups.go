package main

import (
	"fmt"
	"strings"
	"time"
)

// groups measures reports that the stock tools have not: by a field and by time.
func (b *bench) groups(store string) error {
	b.printf("\nCounts by a field or by time, which the stock tools have not. By a key and by two fields all events are read.\n")
	b.printf("\n| report | took | memory |\n|---|---|---|\n")
	for _, args := range [][]string{
		{"--by", "exe"}, {"--by", "auid", "-i"}, {"--by", "node"}, {"--by", "type"}, {"--every", "1d"}, {"--every", "1h"}, {"--every", "1m"},
		{"--by", "key"}, {"--by", "exe,success"},
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
