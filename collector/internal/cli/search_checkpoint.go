package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/auditfleet/auditfleet/pkg/search"
)

// searchNew is a search with --checkpoint. Exit codes 10 and 11 are those of
// ausearch for a checkpoint that cannot be read or written.
func (p *program) searchNew(ctx context.Context, o *search.Options, out io.Writer) int {
	found, err := p.findNew(ctx, o, out)
	if bad := (*search.CheckpointError)(nil); errors.As(err, &bad) {
		fmt.Fprintln(p.stdio.Err, bad.Text)
		return bad.Code
	}
	if err != nil {
		fmt.Fprintf(p.stdio.Err, "search: %v\n", err)
		return 1
	}
	return o.Exit(int(found), p.stdio.Err)
}

// findNew writes what is new since the last time and counts it.
func (p *program) findNew(ctx context.Context, o *search.Options, out io.Writer) (found uint64, err error) {
	w, err := search.NewWriter(out, o, time.Local)
	if err != nil {
		return 0, err
	}
	src, err := where{store: last(o.Extra["--store"]), api: last(o.Extra["--api"])}.open(ctx, p)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	now := time.Now() // before the hosts are asked for, and those before the search
	known, err := src.Hosts(ctx)
	if err != nil {
		return 0, err
	}
	hosts := make([]search.HostState, len(known))
	for i, h := range known {
		hosts[i] = search.HostState{Name: string(h.Name), Seen: time.UnixMilli(h.LastSeenMs), LastEventMs: h.LastEventMs}
		p.sayAhead(&hosts[i], now)
	}
	return search.FindNew(ctx, o, src, hosts, now, w)
}

// farAhead is more than the clocks of hosts differ.
const farAhead = time.Hour

// sayAhead warns of a host with an event of the future: its place is behind all it
// sends with a clock that was put right, and whoever reads by checkpoint sees
// nothing of it any more.
func (p *program) sayAhead(h *search.HostState, now time.Time) {
	if h.LastEventMs <= now.Add(farAhead).UnixMilli() {
		return
	}
	fmt.Fprintf(p.stdio.Err, "NOTE - host %q has an event of the future (%s): what it sends with earlier times is not printed with --checkpoint, search for it with -ts\n",
		h.Name, time.UnixMilli(h.LastEventMs).Format(time.DateTime))
}
