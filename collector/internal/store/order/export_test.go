package order

// RunHolding is Run that keeps the texts of so many bytes of blocks.
var RunHolding = run

// ErrOrder is errOrder.
var ErrOrder = errOrder
