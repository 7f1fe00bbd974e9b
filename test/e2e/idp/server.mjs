// Runs oidc-provider on a free loopback port and prints one line of JSON: {"issuer": "http://127.0.0.1:…"}.
// It issues JWT access tokens by `resource`, each resource with its own algorithm, and refuses any other resource.
// A client for each way to prove who it is: basic, post, jwt (client_secret_jwt), key (private_key_jwt, with the public keys of
// $CLIENT_JWKS), mtls (self_signed_tls_client_auth with a key of $CLIENT_JWKS; needs $TLS_FILE, a PEM file with our certificate and key, which
// makes the server speak https), and bound, whose tokens are bound to its key (DPoP, always with a nonce).
// It ends when its standard input closes.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTLSServer } from 'node:https';
import { Provider, errors } from 'oidc-provider';

const secret = process.env.CLIENT_SECRET;
if (!secret) throw new Error('set CLIENT_SECRET');

const resources = { 'https://rs256.example': 'RS256', 'https://es256.example': 'ES256', 'https://eddsa.example': 'EdDSA' };

const jwk = (kid, alg, [type, options]) =>
  ({ ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig' });

const tls = process.env.TLS_FILE && readFileSync(process.env.TLS_FILE);
const server = tls ? createTLSServer({ cert: tls, key: tls, requestCert: true, rejectUnauthorized: false }) : createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `${tls ? 'https' : 'http'}://127.0.0.1:${server.address().port}`;
  const client = (client_id, token_endpoint_auth_method, more) => ({
    client_id, client_secret: secret, token_endpoint_auth_method,
    grant_types: ['client_credentials'], response_types: [], redirect_uris: [], ...more,
  });
  const provider = new Provider(issuer, {
    clients: [
      client('basic', 'client_secret_basic'), client('post', 'client_secret_post'), client('jwt', 'client_secret_jwt'),
      client('key', 'private_key_jwt', { client_secret: undefined, jwks: JSON.parse(process.env.CLIENT_JWKS ?? '{"keys":[]}') }),
      client('mtls', 'self_signed_tls_client_auth', { client_secret: undefined, jwks: JSON.parse(process.env.CLIENT_JWKS ?? '{"keys":[]}'), tls_client_certificate_bound_access_tokens: true }),
      client('bound', 'client_secret_basic', { dpop_bound_access_tokens: true }),
    ],
    clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'self_signed_tls_client_auth'],
    jwks: {
      keys: [
        jwk('rsa-1', 'RS256', ['rsa', { modulusLength: 2048 }]),
        jwk('ec-1', 'ES256', ['ec', { namedCurve: 'P-256' }]),
        jwk('ed-1', 'EdDSA', ['ed25519', {}]),
      ],
    },
    scopes: ['read:orders', 'write:orders'],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true },
      mTLS: {
        enabled: true, selfSignedTlsClientAuth: true, certificateBoundAccessTokens: true,
        getCertificate: (ctx) => ctx.socket.getPeerX509Certificate?.(),
      },
      dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo(_ctx, resource) {
          const alg = resources[resource];
          if (!alg) throw new errors.InvalidTarget();
          return { scope: 'read:orders write:orders', audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: 300, jwt: { sign: { alg } } };
        },
      },
    },
  });
  server.on('request', provider.callback());
  console.log(JSON.stringify({ issuer }));
});

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
