package proxy

// Reason is one word of a closed set: the metric's label, the log's field and the answer's code.
type Reason string

// Reasons that both directions share.
const (
	OK                  Reason = "ok"
	MalformedRequest    Reason = "malformed_request"
	HeadersTooLarge     Reason = "headers_too_large"
	InternalError       Reason = "internal_error"
	MethodNotAllowed    Reason = "method_not_allowed"
	UpstreamUnreachable Reason = "upstream_unreachable"
	UpstreamTimeout     Reason = "upstream_timeout"
	UpstreamTLS         Reason = "upstream_tls"
	UpstreamProtocol    Reason = "upstream_protocol"
)

// Reasons of the inbound direction.
const (
	NoToken                  Reason = "no_token"
	MultipleTokens           Reason = "multiple_tokens"
	MalformedAuthorization   Reason = "malformed_authorization"
	MalformedToken           Reason = "malformed_token"
	AlgorithmNotAllowed      Reason = "algorithm_not_allowed"
	UnknownKey               Reason = "unknown_key"
	BadSignature             Reason = "bad_signature"
	UntrustedIssuer          Reason = "untrusted_issuer"
	WrongAudience            Reason = "wrong_audience"
	Expired                  Reason = "expired"
	NotYetValid              Reason = "not_yet_valid"
	TooOld                   Reason = "too_old"
	WrongType                Reason = "wrong_type"
	MissingClaim             Reason = "missing_claim"
	Revoked                  Reason = "revoked"
	Inactive                 Reason = "inactive"
	BindingFailed            Reason = "binding_failed"
	InvalidDPoPProof         Reason = "invalid_dpop_proof"
	UseDPoPNonce             Reason = "use_dpop_nonce"
	InsufficientScope        Reason = "insufficient_scope"
	ClientNotAllowed         Reason = "client_not_allowed"
	ClaimMismatch            Reason = "claim_mismatch"
	NoRule                   Reason = "no_rule"
	AmbiguousPath            Reason = "ambiguous_path"
	KeysUnavailable          Reason = "keys_unavailable"
	IntrospectionUnavailable Reason = "introspection_unavailable"
	RevocationsUnavailable   Reason = "revocations_unavailable"
)

// Reasons of the outbound direction.
const (
	TokenRefused         Reason = "token_refused"
	TokenUnavailable     Reason = "token_unavailable"
	NoRoute              Reason = "no_route"
	ConnectDenied        Reason = "connect_denied"
	AuthorizationPresent Reason = "authorization_present"
	NoSubjectToken       Reason = "no_subject_token"
	SubjectRefused       Reason = "subject_refused"
	LoopDetected         Reason = "loop_detected"
	WrongHost            Reason = "wrong_host"
	CrossSite            Reason = "cross_site"
)

// entry is a row of the table of answers.
type entry struct {
	status int
	// proxyError is the error type of RFC 9209, section 2.3.
	proxyError string
	title      string
	// challenge is the auth-scheme's error code (RFC 6750, section 3.1; RFC 9449, section 7.1); "-" is a challenge without one, "" none at all.
	challenge string
	// detail is used when the verdict has none.
	detail string
}

const (
	denied       = "http_request_denied"
	badRequest   = "http_request_error"
	invalidToken = "invalid_token"
)

// table is the one place where a reason becomes an answer.
var table = map[Reason]entry{
	MalformedRequest:    {400, badRequest, "Malformed request", "", "The request is not valid HTTP, or could be read in more than one way."},
	HeadersTooLarge:     {431, badRequest, "Header fields too large", "", "The header fields are larger than this sidecar accepts."},
	InternalError:       {500, "proxy_internal_error", "Internal error", "", "The sidecar failed while it handled this request; its log has the same instance."},
	MethodNotAllowed:    {405, denied, "Method not allowed", "", "TRACE and CONNECT are not served here."},
	UpstreamUnreachable: {502, "destination_unavailable", "Upstream unreachable", "", "No connection to the upstream could be made, or it closed without an answer."},
	UpstreamTimeout:     {504, "http_response_timeout", "Upstream timed out", "", "The upstream did not answer in time."},
	UpstreamTLS:         {502, "tls_protocol_error", "Upstream TLS failed", "", "The TLS connection to the upstream could not be made."},
	UpstreamProtocol:    {502, "http_protocol_error", "Upstream is not HTTP", "", "What the upstream answered is not valid HTTP."},

	NoToken:                  {401, denied, "No token", "-", "Send an access token in the header: Authorization: Bearer <token>."},
	MultipleTokens:           {400, denied, "More than one token", "invalid_request", "The request has more than one Authorization field; send exactly one."},
	MalformedAuthorization:   {400, denied, "Malformed Authorization", "invalid_request", "The Authorization field is not `Bearer <token>`."},
	MalformedToken:           {401, denied, "Malformed token", invalidToken, "The access token is not a well-formed JWT."},
	AlgorithmNotAllowed:      {401, denied, "Algorithm not allowed", invalidToken, "The token is signed with an algorithm that is not allowed here."},
	UnknownKey:               {401, denied, "Unknown key", invalidToken, "The token's issuer does not publish the key that the token names."},
	BadSignature:             {401, denied, "Bad signature", invalidToken, "The token's signature does not verify."},
	UntrustedIssuer:          {401, denied, "Untrusted issuer", invalidToken, "The token comes from an issuer that is not trusted here."},
	WrongAudience:            {401, denied, "Wrong audience", invalidToken, "The token is meant for another audience."},
	Expired:                  {401, denied, "Token expired", invalidToken, "The token has expired."},
	NotYetValid:              {401, denied, "Token not yet valid", invalidToken, "The token is not valid yet; the clocks of its issuer and of this machine may differ."},
	TooOld:                   {401, denied, "Token too old", invalidToken, "The token was issued longer ago than is accepted here."},
	WrongType:                {401, denied, "Wrong token type", invalidToken, "The token is of another type than an access token."},
	MissingClaim:             {401, denied, "Missing claim", invalidToken, "The token lacks a claim that is required here, or it has another value."},
	Revoked:                  {401, denied, "Token revoked", invalidToken, "The token has been revoked."},
	Inactive:                 {401, denied, "Token not active", invalidToken, "The token's issuer says that it is not active."},
	BindingFailed:            {401, denied, "Token binding failed", invalidToken, "The token is bound to a key, and the request does not prove possession of it."},
	InvalidDPoPProof:         {401, denied, "Invalid DPoP proof", string(InvalidDPoPProof), "The request's DPoP proof is not one for this request and its token."},
	UseDPoPNonce:             {401, denied, "Another DPoP nonce needed", string(UseDPoPNonce), "The DPoP proof has a nonce that was not given out here, or that is too old; send a proof with the one in DPoP-Nonce."},
	InsufficientScope:        {403, denied, "Insufficient scope", "insufficient_scope", "The token lacks a scope that this request needs."},
	ClientNotAllowed:         {403, denied, "Client not allowed", "-", "The token's client may not make this request."},
	ClaimMismatch:            {403, denied, "Claim mismatch", "-", "A claim of the token, or its issuer, is not one that this request needs."},
	NoRule:                   {403, denied, "No rule", "-", "No rule covers this method and path."},
	AmbiguousPath:            {400, denied, "Ambiguous path", "", "The path could be read in more than one way, for instance by dot segments or an encoded slash."},
	KeysUnavailable:          {503, "proxy_internal_error", "Keys unavailable", "", "The issuer's keys could not be loaded, so that the token cannot be judged."},
	IntrospectionUnavailable: {503, "proxy_internal_error", "Introspection unavailable", "", "The issuer could not be asked about the token."},
	RevocationsUnavailable:   {503, "proxy_internal_error", "Revocations unavailable", "", "The list of revoked tokens has not been loaded."},

	TokenRefused:         {502, "proxy_configuration_error", "Token refused", "", "The authorization server refused to issue a token for this route."},
	TokenUnavailable:     {503, "proxy_internal_error", "Token unavailable", "", "No access token could be had from the authorization server."},
	NoRoute:              {403, denied, "No route", "", "No route covers this destination."},
	ConnectDenied:        {403, denied, "CONNECT denied", "", "CONNECT is not allowed: nothing can be added to a tunnel. Send plain http:// to the sidecar; it speaks TLS to the upstream."},
	AuthorizationPresent: {400, denied, "Authorization present", "", "The request already has an Authorization field, and this route says `authorization: reject`."},
	NoSubjectToken:       {401, denied, "No subject token", "-", "This route exchanges the caller's token, and the request has none."},
	SubjectRefused:       {401, denied, "Subject token refused", invalidToken, "The authorization server refused the caller's token."},
	LoopDetected:         {508, "proxy_loop_detected", "Loop detected", "", "The request has been through this sidecar already."},
	WrongHost:            {421, denied, "Wrong host", "", "The Host is neither a loopback name nor this listener's own."},
	CrossSite:            {403, denied, "Cross-site request", "", "A browser sent this request for another site."},
}

// Status is the HTTP status of an answer with this reason; 0 for [OK] and 500 for a word that is not in the table.
func (r Reason) Status() int {
	if r == OK {
		return 0
	}
	if e, ok := table[r]; ok {
		return e.status
	}
	return 500
}

// Reasons returns every reason that can be an answer's code, in no particular order.
func Reasons() []Reason {
	out := make([]Reason, 0, len(table))
	for r := range table {
		out = append(out, r)
	}
	return out
}
