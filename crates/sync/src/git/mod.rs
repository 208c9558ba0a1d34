//! Git over HTTP, ssh and files: one bare mirror a repository, read without a checkout.
