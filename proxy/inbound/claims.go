package inbound

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/textproto"
	"strconv"
	"strings"

	"github.com/sidepass/sidepass/proxy"
	"github.com/sidepass/sidepass/proxy/verify"
)

// ClaimHeader is a verified claim that the application gets in a header field.
//
// A string is set as it is, a number in plain decimal digits, true and false as these words, an array of them with
// commas between. A claim that is absent, null or empty sets nothing. A value that a field cannot carry unchanged sets
// nothing either, and the observer is told: an object; a string with anything but printable ASCII, or with a space at
// either end; an array with an element that is empty, nested or has a comma; a number beyond 1e21 written with an
// exponent; more than 8 KiB.
type ClaimHeader struct {
	// Claim is the claim's name, or a JSON Pointer (RFC 6901).
	Claim string
	// Header is the field's name. Names that differ only in case, or in "_" for "-", are the same.
	Header string
}

// maxClaimValue is as much as servers take without being told to, for all fields together.
const maxClaimValue = 8 << 10

// compileHeaders returns the headers with canonical names.
func compileHeaders(headers []ClaimHeader) ([]ClaimHeader, error) {
	var errs []error
	out := make([]ClaimHeader, 0, len(headers))
	seen := map[string]bool{}
	for _, h := range headers {
		key := strings.ReplaceAll(strings.ToLower(h.Header), "_", "-")
		switch {
		case h.Claim == "":
			errs = append(errs, fmt.Errorf("inbound: claim header %q has no claim", h.Header))
		case !isToken(h.Header):
			errs = append(errs, fmt.Errorf("inbound: claim header %q is not the name of a header field", h.Header))
		case reserved(key):
			errs = append(errs, fmt.Errorf("inbound: claim header %q has a meaning of its own in HTTP; choose another name", h.Header))
		case seen[key]:
			errs = append(errs, fmt.Errorf("inbound: claim header %q is set twice", h.Header))
		}
		seen[key] = true
		out = append(out, ClaimHeader{h.Claim, textproto.CanonicalMIMEHeaderKey(h.Header)})
	}
	return out, errors.Join(errs...)
}

// reserved says whether a field decides about the message or the connection, or carries credentials.
func reserved(name string) bool {
	switch name {
	case "authorization", "connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization",
		"proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "via":
		return true
	}
	return false
}

// claimFields are the fields for the verified claims of a token; nil when none are configured.
func (g *Gate) claimFields(tok *verify.Token) []proxy.Field {
	if len(g.headers) == 0 {
		return nil
	}
	fields := make([]proxy.Field, 0, len(g.headers))
	for _, h := range g.headers {
		value, _ := tok.Claim(h.Claim)
		switch text, ok := fieldValue(value); {
		case !ok:
			if g.observer.ClaimDropped != nil {
				g.observer.ClaimDropped(h.Claim, h.Header)
			}
		case text != "":
			fields = append(fields, proxy.Field{Name: h.Header, Value: text})
		}
	}
	return fields
}

// fieldValue is a claim as a field carries it; "" for one that says nothing. ok is false when it cannot be carried.
func fieldValue(claim any) (text string, ok bool) {
	switch claim := claim.(type) {
	case nil:
		return "", true
	case []any:
		elements := make([]string, len(claim))
		for i, e := range claim {
			s, ok := scalar(e)
			if !ok || s == "" || strings.IndexByte(s, ',') >= 0 || !carried(s) {
				return "", false
			}
			elements[i] = s
		}
		text = strings.Join(elements, ",")
	default:
		if text, ok = scalar(claim); !ok || !carried(text) {
			return "", false
		}
	}
	return text, len(text) <= maxClaimValue
}

// carried says whether a field's value arrives as it was sent: nothing in it ends the line, is trimmed or is read in another charset.
func carried(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s == "" || s[0] != ' ' && s[len(s)-1] != ' '
}

// scalar is the text of a string, a number or a boolean.
func scalar(claim any) (text string, ok bool) {
	switch claim := claim.(type) {
	case string:
		return claim, true
	case bool:
		return strconv.FormatBool(claim), true
	case json.Number:
		if strings.ContainsAny(string(claim), "eE") {
			f, err := claim.Float64()
			return decimal(f, err == nil)
		}
		return string(claim), true
	case float64:
		return decimal(claim, true)
	}
	return "", false
}

// decimal writes a number without an exponent.
func decimal(f float64, ok bool) (string, bool) {
	if !ok || !(math.Abs(f) < 1e21) { // NaN too
		return "", false
	}
	return strconv.FormatFloat(f, 'f', -1, 64), true
}
