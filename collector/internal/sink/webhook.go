package sink

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// webhook posts the message as JSON, signed as Standard Webhooks (standardwebhooks.com) has
// it, so that libraries exist that check it. WEBHOOK.md describes both.
type webhook struct{ web }

func (w *webhook) deliver(ctx context.Context, m *message) error {
	body, err := m.json()
	if err != nil {
		return err
	}
	secrets, err := readSecrets(w.s.SecretFile)
	if err != nil {
		return err
	}
	at := strconv.FormatInt(m.sent.Unix(), 10)
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		signatures[i] = sign(secret, m.ID, at, body)
	}
	return w.post(ctx, w.s.URL, body, http.Header{
		"Webhook-Id": {m.ID}, "Webhook-Timestamp": {at}, "Webhook-Signature": {strings.Join(signatures, " ")},
	}, nil)
}

// sign returns the signature of a message with one secret.
func sign(secret []byte, id, at string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(id + "." + at + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// leastSecret is the shortest secret, in bytes, as Standard Webhooks asks for.
const leastSecret = 24

// readSecrets reads the secrets of a file, one a line. An error never has any of them.
func readSecrets(path string) (all [][]byte, err error) {
	text, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(text) {
		secret := bytes.TrimSpace(line)
		if len(secret) == 0 {
			continue
		}
		if packed, ok := bytes.CutPrefix(secret, []byte("whsec_")); ok {
			if secret, err = base64.StdEncoding.DecodeString(string(packed)); err != nil {
				return nil, fmt.Errorf("%s: what is behind whsec_ is no base64", path)
			}
		}
		if len(secret) < leastSecret {
			return nil, fmt.Errorf("%s: a secret has %d bytes, want %d at least: openssl rand -base64 32 makes one", path, len(secret), leastSecret)
		}
		all = append(all, secret)
	}
	if len(all) == 0 || len(all) > 4 {
		return nil, fmt.Errorf("%s: has %d secrets: want one, or up to four while they are changed, each on a line", path, len(all))
	}
	return all, nil
}
