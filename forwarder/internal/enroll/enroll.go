// Package enroll gets a host its certificate: the first one with a token, and another one
// before that expires. It speaks proto/enroll to the collector. The forwarder's cli and agent
// import it.
package enroll

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/pki/authority"
	"github.com/auditfleet/auditfleet/proto/enroll"
)

// timeout is for a whole exchange with one server.
const timeout = 15 * time.Second

// Files are what an enrolment has written.
type Files struct {
	CA, Cert, Key string
	Leaf          *x509.Certificate
}

// Token gets the certificate that a token is for from the collector at server (HOST:PORT),
// and writes it with its key and the CA's certificate to the folder out, as HOST.crt,
// HOST.key and ca.crt. Nothing is overwritten. The collector is known by the CA's
// fingerprint in the token, and by its name, before the token is shown to it.
func Token(ctx context.Context, server, text, out string) (*Files, error) {
	token, err := authority.ParseToken(text)
	if err != nil {
		return nil, err
	}
	files := &Files{CA: filepath.Join(out, "ca.crt"), Cert: filepath.Join(out, token.Host+".crt"), Key: filepath.Join(out, token.Host+".key")}
	if err := fsys.OS.MkdirAll(out, 0o700); err != nil {
		return nil, err
	}
	if _, err := fsys.OS.Size(files.Cert); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is there already, and is never overwritten: choose another --out, or move it and its key away", files.Cert)
	}
	if err := mayPutCA(files.CA, token.CA); err != nil {
		return nil, err
	}
	key, pemKey, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	// The key is there before the token is used up: a folder that cannot be written costs no token.
	if err := fsys.CreateOn(fsys.OS, files.Key, pemKey, 0o600); err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("%s is there already, and is never overwritten: choose another --out, or move it away", files.Key)
		}
		return nil, err
	}
	ca, chain, err := ask(ctx, server, pki.PinnedClient(pki.ServerOf(server), token.CA, enroll.Token), token, key)
	if err == nil {
		files.Leaf, err = check(chain, []*x509.Certificate{ca}, key.Public(), token.Host)
	}
	if err == nil {
		err = putCA(files.CA, ca)
	}
	if err == nil {
		err = fsys.CreateOn(fsys.OS, files.Cert, encode(chain), 0o644)
	}
	if err != nil {
		return nil, errors.Join(err, fsys.OS.Remove(files.Key))
	}
	return files, nil
}

// ask shows a token to a server, and returns the server's CA and the certificate.
func ask(ctx context.Context, server string, cfg *tls.Config, token authority.Token, key crypto.Signer) (ca *x509.Certificate, chain []*x509.Certificate, err error) {
	request, err := newRequest(token.Host, key)
	if err != nil {
		return nil, nil, err
	}
	state, chain, err := exchange(ctx, server, cfg, pki.Explain, &enroll.Request{Token: token.Reveal(), Request: request})
	if err != nil {
		return nil, nil, err
	}
	return pki.PinnedCA(state, token.CA), chain, nil
}

// newRequest asks for a certificate for a key.
func newRequest(host string, key crypto.Signer) ([]byte, error) {
	template := &x509.CertificateRequest{}
	if host != "" {
		template.DNSNames = []string{host}
	}
	return x509.CreateCertificateRequest(rand.Reader, template, key)
}

// exchange sends a request and returns the certificates of the reply. explain words what TLS
// says.
func exchange(ctx context.Context, server string, cfg *tls.Config, explain func(error) error, request *enroll.Request) (tls.ConnectionState, []*x509.Certificate, error) {
	ctx, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	var none tls.ConnectionState
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", server)
	if err != nil {
		return none, nil, err
	}
	defer raw.Close()
	deadline, _ := ctx.Deadline()
	if err := raw.SetDeadline(deadline); err != nil {
		return none, nil, err
	}
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		if strings.Contains(err.Error(), "no application protocol") {
			return none, nil, fmt.Errorf("%s issues no certificates: the collector there needs enroll_ca (--enroll-ca), the folder of its CA", server)
		}
		return none, nil, fmt.Errorf("%s: %w", server, explain(err))
	}
	if err := enroll.Write(conn, request); err != nil {
		// A server that refuses our certificate says so once our handshake is over, and closes.
		if _, why := conn.Read(make([]byte, 1)); why != nil && !errors.Is(why, io.EOF) {
			err = why
		}
		return none, nil, fmt.Errorf("send the request to %s: %w", server, explain(err))
	}
	var reply enroll.Reply
	if err := enroll.Read(conn, &reply); err != nil {
		if request.Token == "" {
			return none, nil, fmt.Errorf("no reply came from %s: %w", server, explain(err))
		}
		return none, nil, fmt.Errorf("no reply came from %s, and the token may be used up: %w", server, explain(err))
	}
	if reply.Error != "" {
		return none, nil, fmt.Errorf("%s refused: %.500s", server, reply.Error)
	}
	chain, err := pki.ParseCertificates("the reply", []byte(reply.Certificate))
	return conn.ConnectionState(), chain, err
}

// check refuses a certificate that is not what was asked for.
func check(chain, cas []*x509.Certificate, public crypto.PublicKey, host string) (*x509.Certificate, error) {
	leaf := chain[0]
	pool, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range cas {
		pool.AddCert(c)
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	// The clock of a host that has just been installed may be wrong; that is said elsewhere.
	opts := x509.VerifyOptions{Roots: pool, Intermediates: between, CurrentTime: leaf.NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := leaf.Verify(opts); err != nil {
		return nil, fmt.Errorf("the certificate that came is not of a CA that is trusted here: %w", err)
	}
	if mine, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !mine.Equal(public) {
		return nil, errors.New("the certificate that came is for another key than was asked for")
	}
	if len(leaf.DNSNames) == 0 || leaf.DNSNames[0] != host {
		return nil, fmt.Errorf("the certificate that came is for %.100q, not for %q", leaf.DNSNames, host)
	}
	return leaf, nil
}

// mayPutCA refuses a folder that has the certificates of other CAs.
func mayPutCA(path, fingerprint string) error {
	data, err := fsys.ReadTrusted(path, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	there, err := pki.ParseCertificates(path, data)
	if err != nil {
		return err
	}
	for _, c := range there {
		if pki.Fingerprint(c) == fingerprint {
			return nil
		}
	}
	return fmt.Errorf("%s is there already with other CAs, and is never overwritten: choose another --out, or move it away", path)
}

// putCA writes the CA's certificate where mayPutCA has not found it.
func putCA(path string, ca *x509.Certificate) error {
	err := fsys.CreateOn(fsys.OS, path, encode([]*x509.Certificate{ca}), 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func encode(chain []*x509.Certificate) (text []byte) {
	for _, c := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}
