package ledger

import "slices"

// Damage is a time whose records cannot be read. N is how many they were, 0 where nobody knows;
// with One, all of them were of one host: of Host, where it is known.
type Damage struct {
	From, To int64
	N        uint64
	One      bool
	Host     string
}

// damaged enters a time whose records cannot be read, where some of them may be the host's: it
// had some then, or nothing is known of it.
func (a *Answer) damaged(w *whole, d Damage) {
	d.To = max(d.To, d.From+1)
	had := slices.ContainsFunc(w.counts, func(c slot) bool { return c.from < d.To && c.to > d.From && c.records > 0 })
	known := w.stated.Has(max(d.From, a.From), min(d.To, a.To)) || w.chained.Has(max(d.From, a.From), min(d.To, a.To))
	if !had && known && d.Host == "" {
		return
	}
	e := Entry{Cause: Damaged, From: d.From, To: d.To}
	if d.One {
		e.N = d.N
	}
	w.entries = append(w.entries, e)
}
