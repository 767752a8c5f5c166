package seal

import "context"

// Keeper is a store that keeps a log of its batches. A store without it is not sealed, and proves nothing.
type Keeper interface {
	// Seals returns the log; nil for a store that was opened to be read and has none.
	Seals() *Tree
	// Sealed has something once the store has changed in a way that is worth a checkpoint at once.
	Sealed() <-chan struct{}
	// CatchUp takes into the log what was stored since it was last done; with trees so that single events can be
	// proved, as far as the store keeps these itself.
	CatchUp(ctx context.Context, trees bool) error
	// ProveEvents has the batches to come ready for such trees, or not.
	ProveEvents(yes bool)
	// VouchWith has fn sign what is written again of a sealed store, before anything is; see Log.Vouch.
	VouchWith(fn func(*Leaf) error)
}
