package checkpoint_test

import (
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/auditfleet/auditfleet/pkg/checkpoint"
)

// The collector signs, a witness that has the public key reads.
func Example() {
	secret, public, err := checkpoint.Generate("collector1.example.org")
	if err != nil {
		fmt.Println(err)
		return
	}
	signer, err := checkpoint.ReadSigner(secret)
	if err != nil {
		fmt.Println(err)
		return
	}
	text, err := checkpoint.Sign(checkpoint.Checkpoint{
		Origin: signer.Name(), Size: 3, Time: time.Unix(1763805600, 0), Store: "00112233445566778899aabbccddeeff",
	}, signer)
	if err != nil {
		fmt.Println(err)
		return
	}
	keys, err := checkpoint.ReadVerifiers(public)
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := checkpoint.Open(text, note.VerifierList(keys...))
	fmt.Println(c.Origin, c.Size, c.Time, err)
	// Output:
	// collector1.example.org 3 2025-11-22 10:00:00 +0000 UTC <nil>
}
