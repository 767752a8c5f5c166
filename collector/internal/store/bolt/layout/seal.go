package layout

// BucketSeal has the leaf of each batch with events (collector/internal/seal), under the batch's key, with a checksum behind it.
// Partitions from before version 5 have none.
var BucketSeal = []byte("seal")

// EncodeSeal returns the value of a leaf under its batch's key.
func EncodeSeal(key, leaf []byte) []byte { return AddSum(key, append([]byte(nil), leaf...)) }

// DecodeSeal is the reverse; store.ErrDamaged. The result is a part of v.
func DecodeSeal(key, v []byte) ([]byte, error) { return CutSum(key, v) }
