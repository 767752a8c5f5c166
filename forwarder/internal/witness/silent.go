package witness

import "time"

const (
	// silentAfter is for how long a collector that has signed before may take records and sign nothing new,
	// or not prove what it signs: it stores at the latest after minutes, and signs at least every ten.
	silentAfter = time.Hour
	// pauseAfter is after how long without an acknowledgement that time begins anew.
	pauseAfter = 15 * time.Minute
	ackEvery   = time.Second
)

// awaited is a server of which something new is awaited.
type awaited struct{ since, last time.Time }

// Acked says that the collector has acknowledged records: these come into its log, and that is to be signed. One that
// has something to hide could else go on without a word of its log.
func (s *Session) Acked() {
	now := s.k.cfg.Now()
	if d := now.Sub(s.acked); d >= 0 && d < ackEvery {
		return
	}
	s.acked = now
	held := s.k.silent(s.server, now)
	if held == nil {
		return
	}
	s.k.find(&Incident{Op: Bad, Server: s.server, Held: held.Text,
		Text: "a collector that has signed its log before takes records and has shown nothing new that is signed, or has not proved it, for an hour: it has lost its key, signs no more (collector seal), or hides what became of its log"}, "silent", held.Store)
}

// silent returns the newest that a server has shown, where it should have shown something new by now.
func (k *Keeper) silent(server string, now time.Time) (held *Held) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range k.held {
		if h.shownBy(server) && (held == nil || h.Seen.After(held.Seen)) {
			held = h
		}
	}
	if held == nil {
		return nil
	}
	a := k.awaited[server]
	if a == nil || now.Before(a.last) || now.Sub(a.last) > pauseAfter {
		a = &awaited{since: now}
		k.awaited[server] = a
	}
	a.last = now
	if now.Sub(a.since) < silentAfter {
		return nil
	}
	a.since = now
	return held
}
