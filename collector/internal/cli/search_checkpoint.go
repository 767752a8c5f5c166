package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/render"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/search"
)

// searchNew is a search with --checkpoint. Exit codes 10 to 12 are those of
// ausearch for a checkpoint that cannot be followed or written.
func (p *program) searchNew(ctx context.Context, o *search.Options, out io.Writer) int {
	found, err := p.findNew(ctx, o, out)
	if bad := (*search.CheckpointError)(nil); errors.As(err, &bad) {
		fmt.Fprintln(p.stdio.Err, bad.Text)
		return bad.Code
	}
	if err != nil {
		fmt.Fprintf(p.stdio.Err, "search: %v\n", err)
		return o.Failed()
	}
	return o.Exit(int(found), p.stdio.Err)
}

// findNew writes what is new since the last time and counts it.
func (p *program) findNew(ctx context.Context, o *search.Options, out io.Writer) (found uint64, err error) {
	render.OfFleet(o, p.stdio.Err)
	w := whereOf(o.Extra)
	if a, err := w.withClient(); err != nil {
		return 0, err
	} else if len(a.others) > 0 {
		return 0, errors.New("--checkpoint is of one collector, for another one has batches of its own: search each by --server HOST:PORT, with --also none and a checkpoint file of its own")
	}
	src, err := w.open(ctx, p)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	page := output.NewWriter(out, &o.Config, time.Local)
	coverage := render.SearchNote(ctx, o, src)
	found, err = search.FindNew(ctx, o, src, page)
	return found, errors.Join(err, coverage.Say(ctx, out, p.stdio.Err))
}
