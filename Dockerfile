# docker build -t nmt . && docker run --rm -p 5000:5000 -v "$PWD/runs/demo:/run:ro" nmt
FROM python:3.12-slim
COPY constraints.txt /src/
RUN pip install --no-cache-dir --no-deps -c /src/constraints.txt torch --index-url https://download.pytorch.org/whl/cpu
COPY . /src
RUN pip install --no-cache-dir -c /src/constraints.txt "/src[serve]" && useradd --create-home --uid 1000 nmt
USER 1000
WORKDIR /home/nmt
EXPOSE 5000
STOPSIGNAL SIGTERM
HEALTHCHECK CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:5000/health', timeout=5)"]
ENTRYPOINT ["nmt", "serve", "--host", "0.0.0.0"]
CMD ["/run"]
