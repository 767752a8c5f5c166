package clickhouse

import (
	"context"
	"slices"
)

// Rotate begins other parts of the day of the last batch, one of each class that has events in one that is written.
func (e *Engine) Rotate(ctx context.Context) error {
	a, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer e.appending.Unlock()
	last := a.last[e.opts.Store]
	day, ok := last.day()
	if !ok {
		return nil
	}
	names, of, err := e.cluster.shards(ctx)
	if err != nil {
		return err
	}
	var rows []row
	for part, p := range a.parts {
		if part.Day != day || p.Sealed || p.Events == 0 || p.Class == "" && !slices.Contains(last.parts, part) {
			continue
		}
		part, class := a.partFor(day, p.Class)
		part.N++
		rows = append(rows, row{part: part, batch: last.batch, class: class})
	}
	if len(rows) == 0 {
		return nil
	}
	slices.SortFunc(rows, func(x, y row) int { return x.part.Compare(y.part) })
	if err := e.writeRows(ctx, of[names[0]], rows); err != nil {
		return err
	}
	e.takeIn(rows)
	return nil
}
