package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// web posts to an HTTP server, over a connection of its own each time: alerts are few, and
// so files with certificates and secrets count as they are now.
type web struct{ s Settings }

const (
	// answerBytes is how much of an answer is read.
	answerBytes = 4 << 10
	// longestPause is how long a server may ask to be left alone.
	longestPause = time.Hour
)

// post sends body to the URL and judges the answer. Redirects are not followed. What an answer of
// 200 says is judged by good, where that is not nil.
func (w *web) post(ctx context.Context, to string, body []byte, header http.Header, good func(typ string, answer []byte) error) error {
	u, err := url.Parse(to)
	if err != nil {
		return errors.New("the url can't be read")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return errors.New("the url can't be read")
	}
	req.Header = header
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "auditfleet-collector")
	secret, err := w.authorize(req)
	if err != nil {
		return err
	}
	_, sent, _ := strings.Cut(req.Header.Get("Authorization"), " ") // with a password, another form of it
	config, err := w.s.tlsConfig(u.Hostname())
	if err != nil {
		return err
	}
	transport := &http.Transport{
		DialContext: (&net.Dialer{}).DialContext, TLSClientConfig: config, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) { // it has the whole URL, which is nobody else's business
			err = wrapped.Err
		}
		return fmt.Errorf("post to %s: %w", u.Host, err)
	}
	answer, readErr := io.ReadAll(io.LimitReader(resp.Body, answerBytes))
	_ = resp.Body.Close() // nothing was written to it
	if resp.StatusCode/100 == 2 {
		if good != nil {
			if err := good(resp.Header.Get("Content-Type"), answer); err != nil {
				return fmt.Errorf("%s answered %d, and %w: %s", u.Host, resp.StatusCode, err, said(answer, sent, secret, w.s.User))
			}
		}
		return nil // it has taken the message, whatever else it says
	}
	err = fmt.Errorf("%s answered %d %s", u.Host, resp.StatusCode, said(answer, sent, secret, w.s.User))
	return judge(resp, errors.Join(err, readErr))
}

// judge says what an answer other than 2xx means: whether to send the message again.
func judge(resp *http.Response, err error) error {
	switch code := resp.StatusCode; {
	case code/100 == 3:
		return fmt.Errorf("%w: redirects are not followed: configure the URL that it leads to", err)
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusNotFound, code == http.StatusProxyAuthRequired:
		// The configuration is at fault, not the message: it is repaired some day.
		return fmt.Errorf("%w: look at the sink's url and secrets", err)
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests, code/100 == 5:
		if d := retryAfter(resp); d > 0 {
			return pause{err, min(d, longestPause)}
		}
		return err
	case code/100 == 4:
		return refusal{err}
	}
	return err
}

// retryAfter is how long the server asks to be left alone; 0: it does not.
func retryAfter(resp *http.Response) time.Duration {
	v := resp.Header.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil && n > 0 {
		return time.Duration(min(n, int(longestPause/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return time.Until(at)
	}
	return 0
}

// authorize adds what proves who sends, and returns the secret that must not be seen in an
// error.
func (w *web) authorize(req *http.Request) (secret string, err error) {
	switch {
	case w.s.TokenFile != "":
		if secret, err = readWord(w.s.TokenFile); err == nil {
			req.Header.Set("Authorization", "Bearer "+secret)
		}
	case w.s.PasswordFile != "":
		if secret, err = readWord(w.s.PasswordFile); err == nil {
			req.SetBasicAuth(w.s.User, secret)
		}
	}
	return secret, err
}
