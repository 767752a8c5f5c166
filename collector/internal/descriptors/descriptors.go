// Package descriptors divides the files that the process may have open (RLIMIT_NOFILE).
// What senders have of them, the journal does not: what else needs some is counted out
// at the start, and senders get what is left. The server's wiring is the only one to
// import it; it imports nothing of ours.
package descriptors

import (
	"fmt"
	"os"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// Beside what is open at the start and the partitions that may be, there are days that
// begin, segments of the journal, queries, readers of the metrics and plugins that start
// again.
const (
	// keepLeast and keepMost bound what is kept for those; between them it is an
	// eighth of the limit.
	keepLeast = 64
	keepMost  = 1024
	// Queries and Scrapes are how many query and how many read metrics at a time: what
	// comes beyond waits. Both fit in what is kept.
	Queries = 24
	Scrapes = 16
)

// ForSenders is how many connections there may be of those that are asked for, when
// others may open so many files beside those that are open now. It says so in the log.
func ForSenders(asked, others int, log hclog.Logger) (int, error) {
	limit, err := raiseLimit()
	if err != nil {
		return 0, err
	}
	used, err := open()
	if err != nil {
		return 0, err
	}
	used += others
	kept := min(max(limit/8, keepLeast), keepMost)
	most := limit - used - kept
	if most < 1 {
		return 0, fmt.Errorf("the limit of open files (RLIMIT_NOFILE) is %d: %d are open or may be and %d are kept for journal, store and queries; "+
			"raise it to %d at least (LimitNOFILE= in the unit, ulimit -n)", limit, used, kept, used+kept+1)
	}
	n := min(asked, most)
	args := []any{"max_connections", n, "open_files_limit", limit, "open_or_may_be", used, "kept_for_journal_store_and_queries", kept}
	if asked > most {
		log.Warn("fewer connections than max_connections: the limit of open files leaves no more; raise it (LimitNOFILE= in the unit, "+
			"ulimit -n) or lower max_connections", append(args, "configured", asked)...)
	} else {
		log.Info("connections are bounded", args...)
	}
	return n, nil
}

// raiseLimit is how many files the process may have open. Go raises the soft limit to
// the hard one when a program starts, and gives what it starts the old one back; it is
// raised here where that was not done.
func raiseLimit() (int, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	if r.Cur < r.Max {
		higher := unix.Rlimit{Cur: r.Max, Max: r.Max}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &higher) == nil {
			r = higher
		}
	}
	return int(min(r.Cur, 1<<30)), nil //nolint:gosec // bounded
}

// open is how many files the process has open.
func open() (int, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0, fmt.Errorf("count the open files: %w", err)
	}
	return len(entries) - 1, nil // without the one that was read
}
