//go:build soak

package head

import "testing"

func TestKill9Soak(t *testing.T) { killAgain(t, 300) }
