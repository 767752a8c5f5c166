package bolt

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// Frames that go through a small cache in many goroutines have the right text for as long as anybody has them: for ever where
// they said that they keep it. Memory of the others is used again.
func TestCacheUsesMemoryAgain(t *testing.T) {
	const size = 1000
	text := func(frame uint32) []byte { return bytes.Repeat([]byte{byte(frame)}, size) }
	c := newCache(4 * size)
	var mu sync.Mutex
	again, kept := 0, map[uint32][]byte{}
	var wg sync.WaitGroup
	for w := range 4 {
		r := rand.New(rand.NewPCG(7, uint64(w)))
		wg.Go(func() {
			for range 2000 {
				frame := r.Uint32N(200)
				e := c.peek(frameKey{frame: frame})
				if e == nil {
					var err error
					e, err = c.get(frameKey{frame: frame}, func(memory []byte) ([]byte, error) {
						if cap(memory) >= size {
							mu.Lock()
							again++
							mu.Unlock()
						}
						if r.IntN(50) == 0 {
							return nil, fmt.Errorf("frame %d", frame)
						}
						return append(memory[:0], text(frame)...), nil
					})
					if err != nil {
						continue
					}
				}
				if !bytes.Equal(e.text, text(frame)) {
					t.Errorf("frame %d has the text of %d", frame, e.text[0])
				}
				keep := r.IntN(40) == 0
				if keep {
					mu.Lock()
					kept[frame] = e.text
					mu.Unlock()
				}
				c.done(e, keep)
			}
		})
	}
	wg.Wait()
	for frame, have := range kept {
		if !bytes.Equal(have, text(frame)) {
			t.Errorf("frame %d, which was kept, became %d", frame, have[0])
		}
	}
	if again < 1000 || len(c.spare) > maxSpare || c.size > c.limit {
		t.Errorf("memory was used again %d times, %d are spare, %d bytes are cached", again, len(c.spare), c.size)
	}
}

// Small frames that take the memory of large ones count as what they hold: else a cache of some bytes would hold many times as many.
func TestCacheBoundsMemory(t *testing.T) {
	const large, small = 1 << 16, 1 << 8
	c := newCache(16 * large)
	for i := range uint32(5000) {
		size := small
		if i%4 == 0 {
			size = large
		}
		e, err := c.get(frameKey{frame: i}, func(memory []byte) ([]byte, error) {
			if cap(memory) < size {
				memory = make([]byte, 0, size)
			}
			return memory[:size], nil
		})
		if err != nil {
			t.Fatal(err)
		}
		c.done(e, false)
	}
	held := 0
	for _, e := range c.all {
		held += cap(e.text)
	}
	if held > int(c.limit) || held < int(c.limit)/2 {
		t.Errorf("%d bytes are held, %d at most", held, c.limit)
	}
}
