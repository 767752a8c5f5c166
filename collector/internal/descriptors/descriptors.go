// Package descriptors divides the files that the process may have open (RLIMIT_NOFILE)
// between senders and everything else. A file that a sender's connection takes is missing to
// journal and store, so these get theirs first, at the start, and senders get what is left.
// Only the server's wiring imports it; it imports nothing of ours.
package descriptors

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// Beside files that are open at the start, and partitions that may be opened, some are kept
// for days that begin, segments of the journal, queries, readers of the metrics, and plugins
// that start again.
const (
	// keepLeast and keepMost bound how many are kept; between them it is an eighth of the
	// limit.
	keepLeast = 64
	keepMost  = 1024
	// Queries and Scrapes are how many connections may query, and how many may read
	// metrics, at a time; others wait. Both fit into what is kept.
	Queries = 24
	Scrapes = 16
)

// Listener is something that senders connect to.
type Listener struct {
	Name  string // of its key: listen, listen_tls, grpc
	Asked int    // connections that it may have by the configuration
	Each  int    // files that one of them takes
}

// ForSenders returns how many of the asked connections each listener may have, and logs that.
// others is how many files the rest of the process may open beside those that are open now. An
// error says that not even one connection would be left.
func ForSenders(list []Listener, others int, log hclog.Logger) ([]int, error) {
	limit, err := raiseLimit()
	if err != nil {
		return nil, err
	}
	used, err := open()
	if err != nil {
		return nil, err
	}
	used += others
	kept := min(max(limit/8, keepLeast), keepMost)
	least := 0 // what one connection of each takes
	for _, l := range list {
		least = max(least, l.Each*len(list))
	}
	most := limit - used - kept
	if most < least {
		return nil, fmt.Errorf("the limit of open files (RLIMIT_NOFILE) is %d: %d are open or may be and %d are kept for journal, store and queries; "+
			"raise it to %d at least (LimitNOFILE= in the unit, ulimit -n)", limit, used, kept, used+kept+least)
	}
	allowed, fewer := make([]int, len(list)), false
	for i, l := range list {
		allowed[i] = min(l.Asked, most/len(list)/l.Each)
		fewer = fewer || allowed[i] < l.Asked
	}
	args := []any{"max_connections", said(list, allowed), "open_files_limit", limit, "open_or_may_be", used, "kept_for_journal_store_and_queries", kept}
	if fewer {
		log.Warn("fewer connections than max_connections: the limit of open files leaves no more; raise it (LimitNOFILE= in the unit, "+
			"ulimit -n) or lower max_connections", append(args, "configured", list[0].Asked)...)
	} else {
		log.Info("connections are bounded", args...)
	}
	return allowed, nil
}

// said is the number of connections, or that of each listener where there are several.
func said(list []Listener, allowed []int) string {
	if len(list) == 1 {
		return strconv.Itoa(allowed[0])
	}
	parts := make([]string, len(list))
	for i, l := range list {
		parts[i] = fmt.Sprintf("%s %d", l.Name, allowed[i])
	}
	return strings.Join(parts, ", ")
}

// raiseLimit returns how many files the process may have open, after it has raised the soft
// limit to the hard one. Go does that when a program starts, and gives programs that it
// starts the old limit; here it is done where Go did not.
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

// open returns how many files the process has open.
func open() (int, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0, fmt.Errorf("count the open files (is /proc mounted?): %w", err)
	}
	return len(entries) - 1, nil // without the one that was read
}
