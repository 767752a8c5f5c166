package clickhouse

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/store"
)

var _ store.Shared = (*Engine)(nil)

// holdsOf begins the names of the rows of meta that say what a collector has on hold; its store's ID follows. Their values are a number, which is greater each time, and the text.
const holdsOf = "holds of "

// heldText divides the value of such a row.
func heldText(value string) (number uint64, text string) {
	n, text, _ := strings.Cut(value, " ")
	number, _ = strconv.ParseUint(n, 10, 64) // 0 of a row that is none
	return number, text
}

// holds returns what each collector said last that it has on hold; "" is nothing.
func (c *servers) holds(ctx context.Context, first []*node) (texts map[string]string, numbers map[string]uint64, err error) {
	values, err := c.said(ctx, first, holdsOf)
	if err != nil {
		return nil, nil, fmt.Errorf("read what collectors have on hold: %w", err)
	}
	texts, numbers = map[string]string{}, map[string]uint64{}
	for id, value := range values {
		numbers[id], texts[id] = heldText(value)
	}
	return texts, numbers, nil
}

// ShareHolds implements store.Shared.
func (e *Engine) ShareHolds(ctx context.Context, text string) error {
	first, err := e.first(ctx)
	if err != nil {
		return err
	}
	if err := e.shareHolds(ctx, first, e.opts.Store, text); err != nil || text == "" {
		return err
	}
	return e.decided(ctx, first)
}

// shareHolds says what a collector has on hold, unless that was said last.
func (e *Engine) shareHolds(ctx context.Context, first []*node, id, text string) error {
	texts, numbers, err := e.cluster.holds(ctx, first)
	if err != nil || texts[id] == text {
		return err
	}
	return e.cluster.say(ctx, first, []string{holdsOf + id}, []string{fmt.Sprintf("%020d %s", numbers[id]+1, text)})
}

// others returns what others than this collector have on hold.
func (e *Engine) others(texts map[string]string) map[string]string {
	out := map[string]string{}
	for id, text := range texts {
		if id != e.opts.Store && text != "" {
			out[id] = text
		}
	}
	return out
}

// OthersHolds implements store.Shared.
func (e *Engine) OthersHolds(ctx context.Context) (map[string]string, error) {
	a, err := e.known(ctx, fresh)
	if err != nil {
		return nil, err
	}
	return e.others(a.holds), nil
}

// HoldBy implements store.Shared.
func (e *Engine) HoldBy(fn func(context.Context, *store.PartStats, map[string]string) string) {
	e.holdBy.Store(&fn)
}

// held returns an error where others have a part on hold now.
func (e *Engine) held(ctx context.Context, first []*node, p *store.PartStats) error {
	texts, _, err := e.cluster.holds(ctx, first)
	if err != nil {
		return err
	}
	others, why := e.others(texts), ""
	if fn := e.holdBy.Load(); fn != nil {
		why = (*fn)(ctx, p, others)
	} else if len(others) > 0 {
		why = "by another collector"
	}
	if why != "" {
		return fmt.Errorf("%w: it is on hold: %s", store.ErrInUse, why)
	}
	return nil
}
